"""Describes one trace: lengths, and sharing within and across sessions."""

from marconi_core.config import load_config
from marconi_core.files import write_text
from marconi_core.plots.style import save
from marconi_core.plots.trace import draw
from marconi_core.rules.log import rule_log
from marconi_core.rules.study import load_trace
from marconi_core.traces.describe import describe


def main(snakemake):
    with rule_log(snakemake.log[0]):
        config = load_config(snakemake.config)
        trace = load_trace(config, snakemake.wildcards.trace, snakemake.input.compiled)
        write_text(snakemake.output.table, describe(trace).to_text() + "\n")
        save(draw(trace, snakemake.params.title), snakemake.output.figure)


if "snakemake" in globals():
    main(snakemake)  # noqa: F821
