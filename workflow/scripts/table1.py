"""Computes Table 1 from the formulas."""

from marconi_core.files import write_text
from marconi_core.plots import table1
from marconi_core.report.page import Section, to_html
from marconi_core.rules.log import rule_log


def main(snakemake):
    with rule_log(snakemake.log[0]):
        rows = table1.table()
        write_text(snakemake.output.csv, rows.to_csv(index=False))
        write_text(snakemake.output.html, to_html([Section("Table 1", table=rows)]))


if "snakemake" in globals():
    main(snakemake)  # noqa: F821
