"""Simulates a server on one trace: all pools, policies and fixed alphas."""

import logging

from marconi_core.config import load_config
from marconi_core.files import atomic_path
from marconi_core.models import load_hybrid_model
from marconi_core.progress import Heartbeat
from marconi_core.rules.log import rule_log
from marconi_core.rules.study import labels, load_trace
from marconi_core.sim.server.sweep import server_sweep


def main(snakemake):
    with rule_log(snakemake.log[0]):
        config, name = load_config(snakemake.config), snakemake.wildcards.trace
        study = config.server
        heartbeat = Heartbeat(logging.getLogger("marconi_core.sim"), "%d of %d done, next: %s")
        rows = server_sweep(
            load_trace(config, name, snakemake.input.compiled),
            [pools.sizes() for pools in study.pools[name]],
            load_hybrid_model(study.model),
            study.chunk,
            study.alphas,
            {**labels(config, name), "model": study.model},
            heartbeat.beat,
        )
        with atomic_path(snakemake.output.runs) as partial:
            rows.to_parquet(partial, index=False, compression="zstd")


if "snakemake" in globals():
    main(snakemake)  # noqa: F821
