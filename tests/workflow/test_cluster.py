"""What a cluster needs of the workflow: honest resources, valid groups, and plans that read no data."""

import sys
from pathlib import Path
from typing import Any

import pytest
from snakemake.api import SnakemakeApi
from snakemake.settings.types import ConfigSettings, OutputSettings, ResourceSettings

from .conftest import Run


@pytest.mark.parametrize("server", ["sglang", "recorded"])
def test_every_rule_says_what_it_takes(checkout: Path, server: str) -> None:
    with SnakemakeApi(OutputSettings(dryrun=True)) as api:
        workflow = api.workflow(
            resource_settings=ResourceSettings(cores=1),
            config_settings=ConfigSettings(config={"live": {"server": server}}),
            snakefile=checkout / "Snakefile",
            workdir=checkout,
        )
        workflow.dag()  # parses
        rules = {rule.name: rule for rule in workflow._workflow.rules if not rule.norun}
        local = set(workflow._workflow._localrules)
    assert {"fetch", "compile_dataset"} <= local, "what needs a network, or takes seconds"
    silent = {
        name: rule.resources
        for name, rule in rules.items()
        if name not in local and not {"mem_mb", "runtime"} <= rule.resources.keys()
    }
    assert not silent
    on_gpu = {name for name, rule in rules.items() if "gpu" in rule.resources}
    assert {"replay", "measure_ttft", "measure_parity", "check_server"} <= on_gpu


def test_planning_reads_no_data(run: Run, checkout: Path) -> None:
    mirror = checkout / "mirror"
    folders = [mirror, checkout / "results" / "data", checkout / "results" / "traces"]
    for folder in folders:
        folder.mkdir(parents=True)
    for name in ("ShareGPT_V3_unfiltered_cleaned_split.json", "llama2-tokenizer.json"):
        (mirror / name).write_text("not to be read")
        (checkout / "results" / "data" / name).write_text("not to be read")
    (checkout / "results" / "traces" / "sharegpt.npz").write_text("not to be read")
    opened: list[Path] = []
    watching = [True]

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if watching and event == "open" and isinstance(arguments[0], str):
            opened.append(Path(arguments[0]).absolute())

    sys.addaudithook(watch)  # there is no way to remove one
    try:
        run(data_mirror=str(mirror))
    finally:
        watching.clear()
    assert checkout / "Snakefile" in opened
    assert not [path for path in opened if any(path.is_relative_to(folder) for folder in folders)]
