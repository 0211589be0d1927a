"""Draws the replays of live servers, and writes all their requests as one table."""

from pathlib import Path

from marconi_core.files import atomic_path
from marconi_core.plots import live as plot
from marconi_core.plots.style import save_with_data
from marconi_core.report.live import requests, table
from marconi_core.report.predicted import read_predictions
from marconi_core.report.roles import Role
from marconi_core.rules.live import csv_files
from marconi_core.rules.log import rule_log
from marconi_core.serving.recordings import read_recordings


def main(snakemake):
    with rule_log(snakemake.log[0]):
        recordings = list(read_recordings(csv_files(snakemake.params.folders)))
        with atomic_path(snakemake.output.requests) as partial:
            requests(recordings).to_parquet(partial, index=False)
        roles = [Role(**role) for role in snakemake.params.roles]
        predictions = read_predictions(map(Path, snakemake.input.get("predicted", [])))
        replays = table(recordings, predictions, roles)
        figures = [snakemake.output[name] for name in ("svg", "pdf", "csv")]
        save_with_data(plot.draw(replays), replays, figures)


if "snakemake" in globals():
    main(snakemake)  # noqa: F821
