"""A full disk, a read-only folder, and writers that are killed."""

import errno
import os
import signal
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from marconi_core.config import load_config
from marconi_core.errors import StorageError
from marconi_core.files import atomic_path, write_text
from marconi_core.plots.style import save
from marconi_core.rules.availability import check_optional
from marconi_core.rules.log import rule_log
from tests.faults.conftest import Mount

NO_SPACE = "cannot be written (No space left on device); free some space there"
WRITER = """
import sys, time
from marconi_core.files import atomic_path
with atomic_path(sys.argv[1]) as partial:
    partial.write_text("half")
    print("writing", flush=True)
    time.sleep(600)
"""


def random_numbers(count: int) -> np.ndarray:
    return np.random.default_rng(0).random(count)


def write_arrays(path: Path) -> None:
    with atomic_path(path) as partial, partial.open("wb") as file:
        np.savez(file, allow_pickle=False, numbers=random_numbers(100_000))


def write_table(path: Path) -> None:
    with atomic_path(path) as partial:
        pd.DataFrame({"numbers": random_numbers(100_000)}).to_parquet(partial, index=False)


def write_figure(path: Path) -> None:
    figure = Figure()
    figure.subplots().plot(random_numbers(50_000), ".")
    save(figure, path)


def write_page(path: Path) -> None:
    write_text(path, "page" * 100_000)


@pytest.mark.parametrize(
    ("write", "name"),
    [
        (write_arrays, "a.npz"),
        (write_table, "a.parquet"),
        (write_figure, "a.svg"),
        (write_figure, "a.pdf"),  # closing fails once more, with an error that says nothing
        (write_page, "a.html"),
    ],
)
def test_every_kind_of_result_on_a_full_disk(disk: Mount, write, name: str) -> None:
    folder = disk("size=60k")
    with pytest.raises(StorageError) as caught:
        write(folder / name)
    assert str(caught.value).startswith(f"{folder / name}: {NO_SPACE}")
    assert list(folder.iterdir()) == []


def test_a_full_disk_is_no_reason_to_leave_a_data_set_out(disk: Mount, tmp_path: Path) -> None:
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    (mirror / "tau-bench-airline-gpt-4o.jsonl").write_bytes(os.urandom(200_000))
    config = load_config(
        {
            "data_dir": str(disk("size=60k")),
            "data_mirror": str(mirror),
            "datasets": {
                "tau_airline": {
                    "source": "tau_airline",
                    "optional": True,
                    "sessions": 1,
                    "arrivals": {
                        "kind": "poisson",
                        "sessions_per_second": [1],
                        "mean_response_time": [5],
                    },
                    "capacities_bytes": [1e9],
                }
            },
        }
    )
    with pytest.raises(StorageError, match="No space left on device"):
        check_optional(config)


def test_a_log_that_finds_no_room_does_not_bury_the_message(
    disk: Mount, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = disk("size=60k")

    def fill() -> None:
        with rule_log(folder / "rule.log"):
            (folder / "rest").write_bytes(bytes(56 * 1024))
            write_page(folder / "page.html")

    with pytest.raises(SystemExit) as ended:
        fill()
    assert str(ended.value).startswith(f"StorageError: {folder}/page.html: {NO_SPACE}")
    assert capfd.readouterr().err == ""


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "results").write_text("a file")
    with pytest.raises(StorageError, match=r"results/a\.txt: .* make its folder writable"):
        write_text(tmp_path / "results/a.txt", "")
    with pytest.raises(SystemExit, match="StorageError"), rule_log(tmp_path / "results/a.log"):
        pass


def test_only_what_the_disk_refuses_is_its_fault(tmp_path: Path) -> None:
    with pytest.raises(PermissionError), atomic_path(tmp_path / "a"):
        raise PermissionError(errno.EACCES, "of a file that was to be read")
    with pytest.raises(zlib.error), atomic_path(tmp_path / "a"):
        raise zlib.error("damaged")
    assert list(tmp_path.iterdir()) == []


def test_a_killed_writer_leaves_nothing_for_long(tmp_path: Path) -> None:
    target = tmp_path / "results/data [1].json"
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, target], stdout=subprocess.PIPE)
        for _ in range(2)
    ]
    for writer in writers:
        assert writer.stdout and writer.stdout.readline() == b"writing\n"
    killed, alive = writers
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert len(list(target.parent.iterdir())) == 2 and not target.exists()
    write_text(target, "whole")
    left = {path.name for path in target.parent.iterdir()} - {target.name}
    assert len(left) == 1, "the writer that is alive keeps its file"
    alive.send_signal(signal.SIGKILL)
    alive.wait()
    write_text(target, "whole again")
    assert [path.read_text() for path in target.parent.iterdir()] == ["whole again"]
