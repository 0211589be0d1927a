"""Gathers the checklists of live servers."""

from pathlib import Path

from marconi_core.files import write_text
from marconi_core.report.live import checklists
from marconi_core.report.page import Section, to_markdown
from marconi_core.rules.log import rule_log


def main(snakemake):
    with rule_log(snakemake.log[0]):
        table = checklists(map(Path, snakemake.input.checklists))
        section = Section("Checklists", snakemake.params.origin, table)
        write_text(snakemake.output.table, to_markdown([section]))


if "snakemake" in globals():
    main(snakemake)  # noqa: F821
