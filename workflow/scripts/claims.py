"""Judges every claim of the paper and writes the results page."""

from marconi_core.files import write_text
from marconi_core.policies import COMPARED
from marconi_core.provenance import versions
from marconi_core.report.claims import evaluate, load_claims
from marconi_core.report.live import table as live_table
from marconi_core.report.live_claims import live_values, servers
from marconi_core.report.metrics import read_by_folder, read_tables
from marconi_core.report.page import summary, to_front, to_html, to_markdown, verdicts
from marconi_core.report.predicted import read_predictions
from marconi_core.report.roles import Role
from marconi_core.rules.live import csv_files
from marconi_core.rules.log import rule_log
from marconi_core.serving.recordings import read_recordings


def main(snakemake):
    with rule_log(snakemake.log[0]):
        roles = [Role(**role) for role in snakemake.params.roles]
        runs = read_tables(snakemake.input.runs)
        requests = read_tables(snakemake.input.requests, COMPARED)
        experiments = read_by_folder(snakemake.input.experiments)
        claims = load_claims()
        recordings = read_recordings(csv_files(list(snakemake.input.live)))
        replays = live_table(recordings, read_predictions([]), roles)
        live = live_values(claims, replays)
        table = evaluate(claims, runs, requests, roles, experiments, live)
        write_text(snakemake.output.csv, table.to_csv(index=False))
        source = servers(replays)
        page = summary(table, runs, roles, snakemake.params.left_out, versions(), source)
        write_text(snakemake.output.front, to_front(verdicts(table, source)))
        write_text(snakemake.output.markdown, to_markdown(page))
        write_text(snakemake.output.html, to_html(page))


if "snakemake" in globals():
    main(snakemake)  # noqa: F821
