"""Describes one trace: lengths, and sharing within and across sessions."""

from pathlib import Path

from marconi_core.config import load_config
from marconi_core.rules.log import rule_log
from marconi_core.rules.study import load_trace
from marconi_core.traces.describe import describe, plot


def main(snakemake):
    with rule_log(snakemake.log[0]):
        config = load_config(snakemake.config)
        trace = load_trace(config, snakemake.wildcards.trace, snakemake.input.compiled)
        text = describe(trace).to_text()
        Path(snakemake.output.table).write_text(text + "\n", encoding="utf-8")
        plot(trace, snakemake.output.figure, title=snakemake.wildcards.trace)


if "snakemake" in globals():
    main(snakemake)  # noqa: F821
