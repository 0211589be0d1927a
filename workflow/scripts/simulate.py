"""Simulates one trace: all its capacities, policies and static alphas."""

import logging
from pathlib import Path

from marconi_core.config import load_config
from marconi_core.models import load_model
from marconi_core.progress import Heartbeat
from marconi_core.rules.log import rule_log
from marconi_core.rules.study import grid, load_trace
from marconi_core.sim.sweep import sweep


def main(snakemake):
    with rule_log(snakemake.log[0]):
        config = load_config(snakemake.config)
        heartbeat = Heartbeat(logging.getLogger("marconi_core.sim"), "%d of %d done, next: %s")
        tables = sweep(
            load_trace(config, snakemake.wildcards.trace, snakemake.input.compiled),
            model=load_model(config.model),
            progress=heartbeat.beat,
            **grid(config, snakemake.wildcards.trace),
        )
        tables.write(Path(snakemake.output.runs).parent)


if "snakemake" in globals():
    main(snakemake)  # noqa: F821
