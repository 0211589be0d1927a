"""Measures what one trace loses when prompts are sent as texts."""

import pandas as pd

from marconi_core.config import load_config
from marconi_core.files import write_text
from marconi_core.replay.texts import Alignment, alignments
from marconi_core.rules.log import rule_log
from marconi_core.rules.study import load_trace
from marconi_core.traces.trace import Trace
from marconi_core.traces.vocabulary import Vocabulary


def main(snakemake):
    with rule_log(snakemake.log[0]):
        config = load_config(snakemake.config)
        rows = alignments(
            load_trace(config, snakemake.wildcards.trace, snakemake.input.compiled),
            Trace.load(snakemake.input.retokenized),
            Vocabulary.load(snakemake.input.source),
            Vocabulary.load(snakemake.input.target),
        )
        table = pd.DataFrame(rows, columns=Alignment._fields)
        write_text(snakemake.output.table, table.round(6).to_csv(index=False))


if "snakemake" in globals():
    main(snakemake)  # noqa: F821
