"""What the workflow would do, without doing it."""

from pathlib import Path

import pytest
import yaml
from snakemake.exceptions import WorkflowError

from .conftest import Run


def test_default_configuration_starts_with_the_optional_datasets(run: Run) -> None:
    planned = run()
    assert planned["availability"] == 1
    assert planned["fetch"] == 2  # ShareGPT and the vocabulary
    assert planned["all"] == 1


def test_a_configfile_replaces_the_default_one(run: Run) -> None:
    planned = run(config="smoke")
    assert planned["simulate"] == 4
    assert planned["fetch"] == planned["availability"] == 0


def test_papers_configuration_is_planned(run: Run) -> None:
    assert run(config="paper")["availability"] == 1


def test_available_and_missing_datasets_take_part_and_are_left_out(
    run: Run, checkout: Path
) -> None:
    path = checkout / "workflow/config/smoke.yaml"
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    content["datasets"]["tiny_chats"]["optional"] = True
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    assert run("availability", config="smoke", execute=True)["availability"] == 1
    assert run(config="smoke")["simulate"] == 4

    answer = checkout / "results/smoke/availability.json"
    answer.write_text('{"tiny_chats": "no network"}', encoding="utf-8")
    planned = run(config="smoke")
    assert planned["simulate"] == 2
    assert planned["fig9_panel"] == 1


@pytest.mark.parametrize(
    ("target", "rules"),
    [
        ("compile", {"compile": 1, "compile_dataset": 2}),
        ("traces", {"traces": 1, "compile_dataset": 2, "write_trace": 4}),
        ("describe", {"describe": 1, "compile_dataset": 2, "describe_trace": 2}),
        ("sim", {"sim": 1, "compile_dataset": 2, "simulate": 4}),
        ("fig7", {"fig7": 1, "compile_dataset": 2, "simulate": 4}),
        ("fig8", {"fig8": 1, "compile_dataset": 2, "simulate": 4}),
        ("fig9", {"fig9": 1, "fig9_panel": 2, "compile_dataset": 2, "simulate": 4}),
        ("fig9b", {"fig9b": 1, "fig9_panel": 1, "compile_dataset": 1, "simulate": 2}),
        ("claims", {"claims": 1, "compile_dataset": 2, "simulate": 4}),
        ("smoke", {"smoke": 1}),
    ],
)
def test_named_targets(run: Run, target: str, rules: dict[str, int]) -> None:
    assert run(target, config="smoke") == rules


def test_ready_traces_replace_the_source(run: Run, checkout: Path) -> None:
    path = checkout / "workflow/config/smoke.yaml"
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    content["datasets"]["tiny_chats"]["trace_dir"] = "archive"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    (checkout / "archive").mkdir()
    for rate in (1, 2):
        (checkout / f"archive/tiny_chats_sps={rate}_nums=20.jsonl").touch()
    planned = run("compile", config="smoke")
    assert planned == {"compile": 1, "compile_dataset": 1, "read_trace": 2}


def test_a_misspelt_key_stops_everything_with_one_message(run: Run) -> None:
    with pytest.raises(WorkflowError) as caught:
        run(config="smoke", polices=["marconi"])
    assert "polices: unknown key; did you mean `policies`?" in str(caught.value)
