"""Writes the page about live servers."""

from pathlib import Path

import pandas as pd

from marconi_core.files import write_text
from marconi_core.report.live import checklists, left_out, page, parity
from marconi_core.report.page import to_html, to_markdown
from marconi_core.rules.live import csv_files
from marconi_core.rules.log import rule_log
from marconi_core.serving.recordings import read_recordings


def main(snakemake):
    with rule_log(snakemake.log[0]):
        sections = list(
            page(
                snakemake.params.origin,
                pd.read_csv(snakemake.input.replays),
                pd.read_parquet(snakemake.input.requests),
                parity(read_recordings(csv_files(list(snakemake.input.parity)))),
                pd.read_csv(snakemake.input.ttft),
                checklists(map(Path, snakemake.input.checklists)),
                left_out(map(Path, snakemake.params.folders)),
            )
        )
        write_text(snakemake.output.markdown, to_markdown(sections))
        write_text(snakemake.output.html, to_html(sections, "Live"))


if "snakemake" in globals():
    main(snakemake)  # noqa: F821
