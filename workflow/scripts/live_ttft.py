"""Draws time to first token against prompt length."""

from marconi_core.plots import ttft
from marconi_core.plots.style import save_with_data
from marconi_core.rules.live import csv_files
from marconi_core.rules.log import rule_log
from marconi_core.serving.recordings import read_recordings


def main(snakemake):
    with rule_log(snakemake.log[0]):
        rows = ttft.table(read_recordings(csv_files(list(snakemake.input.recordings))))
        save_with_data(ttft.draw(rows), rows, snakemake.output)


if "snakemake" in globals():
    main(snakemake)  # noqa: F821
