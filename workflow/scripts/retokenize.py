"""Translates one trace into the vocabulary of the live model, or keeps its token ids."""

from marconi_core.config import load_config
from marconi_core.files import write_text
from marconi_core.rules.log import rule_log
from marconi_core.rules.study import load_trace
from marconi_core.traces.describe import describe
from marconi_core.traces.retokenize import retokenize
from marconi_core.traces.vocabulary import Vocabulary


def main(snakemake):
    with rule_log(snakemake.log[0]):
        config = load_config(snakemake.config)
        trace = load_trace(config, snakemake.wildcards.trace, snakemake.input.compiled)
        text = "token ids as they are"
        if snakemake.input.target:
            source, target = map(Vocabulary.load, (snakemake.input.source, snakemake.input.target))
            trace, change = retokenize(trace, source, target)
            text = change.to_text()
        trace.save(snakemake.output.trace)
        write_text(snakemake.output.table, f"{describe(trace).to_text()}\n\n{text}\n")


if "snakemake" in globals():
    main(snakemake)  # noqa: F821
