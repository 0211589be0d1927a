"""Computes Table 1 from the formulas."""

from pathlib import Path

from marconi_core.plots import table1
from marconi_core.report.page import Section, to_html
from marconi_core.rules.log import rule_log


def main(snakemake):
    with rule_log(snakemake.log[0]):
        rows = table1.table()
        rows.to_csv(snakemake.output.csv, index=False)
        page = to_html([Section("Table 1", table=rows)])
        Path(snakemake.output.html).write_text(page, encoding="utf-8")


if "snakemake" in globals():
    main(snakemake)  # noqa: F821
