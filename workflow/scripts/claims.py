"""Judges every claim of the paper and writes the results page."""

from pathlib import Path

from marconi_core.provenance import versions
from marconi_core.report.claims import evaluate, load_claims
from marconi_core.report.metrics import read_by_folder, read_tables
from marconi_core.report.page import summary, to_html, to_markdown
from marconi_core.report.roles import Role
from marconi_core.rules.log import rule_log


def main(snakemake):
    with rule_log(snakemake.log[0]):
        roles = [Role(**role) for role in snakemake.params.roles]
        runs = read_tables(snakemake.input.runs)
        requests = read_tables(snakemake.input.requests)
        experiments = read_by_folder(snakemake.input.experiments)
        table = evaluate(load_claims(), runs, requests, roles, experiments)
        table.to_csv(snakemake.output.csv, index=False)
        page = summary(table, runs, roles, snakemake.params.left_out, versions())
        Path(snakemake.output.markdown).write_text(to_markdown(page), encoding="utf-8")
        Path(snakemake.output.html).write_text(to_html(page), encoding="utf-8")


if "snakemake" in globals():
    main(snakemake)  # noqa: F821
