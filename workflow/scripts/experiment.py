"""Runs one experiment on one data set."""

from pathlib import Path

from marconi_core.config import load_config
from marconi_core.files import atomic_path
from marconi_core.rules.experiments import run_experiment
from marconi_core.rules.log import rule_log


def main(snakemake):
    with rule_log(snakemake.log[0]):
        rows = run_experiment(
            load_config(snakemake.config),
            snakemake.wildcards.experiment,
            snakemake.wildcards.dataset,
            {Path(file).stem: file for file in snakemake.input.compiled},
        )
        with atomic_path(snakemake.output.rows) as partial:
            rows.to_parquet(partial, index=False)


if "snakemake" in globals():
    main(snakemake)  # noqa: F821
