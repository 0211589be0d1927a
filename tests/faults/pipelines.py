"""Full disks, interrupted compiling and two runs at once, on the smoke workload.

Runs of Snakemake take seconds each, and so this is not named like a test: `make test` leaves it out,
`make test-faults` runs it.
"""

import time
from pathlib import Path

from tests.faults.conftest import Mount
from tests.faults.pipeline import REPOSITORY, Pipeline

SMOKE = REPOSITORY / "workflow/config/smoke.yaml"
COMPILED = Path("results/traces/tiny_chats.npz")
TABLE = "tables/trace_tiny_chats_sps=1_nums=20.txt"
NO_SPACE = "cannot be written (No space left on device); free some space there"


def test_interrupted_compiling_is_done_again_and_two_runs_do_not_mix(tmp_path: Path) -> None:
    undisturbed, pipeline = (
        Pipeline(tmp_path / name, SMOKE, [f"results/{TABLE}"], results_dir="results")
        for name in ("undisturbed", "disturbed")
    )
    assert undisturbed.run().finished == 2
    run = pipeline.start()
    assert run.kill("rule", 0) == "compile"
    run.wait()
    assert run.process.returncode == 1
    assert "Error in rule compile_dataset" in run.text
    assert COMPILED not in pipeline.results() and not pipeline.complete()

    first = pipeline.start()
    locks = pipeline.folder / ".snakemake/locks"
    while not (locks.is_dir() and any(locks.iterdir())):
        assert first.process.poll() is None, first.text
        time.sleep(0.01)
    second = pipeline.run()
    assert second.process.returncode == 1
    assert "Directory cannot be locked" in second.text and "--unlock" in second.text
    first.wait()
    assert (first.process.returncode, first.finished) == (0, 2), first.text
    assert pipeline.results() == undisturbed.results()


def test_a_full_disk_stops_the_workflow_and_space_lets_it_go_on(
    disk: Mount, tmp_path: Path
) -> None:
    results = disk("size=60k")
    pipeline = Pipeline(tmp_path / "run", SMOKE, [f"{results}/{TABLE}"], results_dir=results)
    run = pipeline.run()
    assert run.process.returncode == 1
    message = f"StorageError: {results}/traces/tiny_chats.npz: {NO_SPACE}"
    assert run.text.count("StorageError") == run.text.count(message) == 1, run.text
    assert not list(results.glob("traces/*"))
    disk("size=64m")
    run = pipeline.run()
    assert (run.process.returncode, run.finished) == (0, 2), run.text

    disk("ro")
    again = Pipeline(tmp_path / "again", SMOKE, [f"{results}/{TABLE}"], results_dir=results)
    assert again.run().finished == 0, "complete results are only read"
    missing = f"{results}/tables/trace_tiny_chats_sps=2_nums=20.txt"
    run = Pipeline(tmp_path / "other", SMOKE, [missing], results_dir=results).run()
    assert run.process.returncode == 1
    assert f"Read-only file system: '{results}" in run.text, run.text
