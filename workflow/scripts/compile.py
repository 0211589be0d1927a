"""Reads, tokenizes and compiles one data set, in Llama-2's vocabulary or translated into another."""

import logging
from pathlib import Path

from marconi_core.rules.log import rule_log
from marconi_core.traces.retokenize import retokenize
from marconi_core.traces.sources import load_workload
from marconi_core.traces.vocabulary import Vocabulary


def main(snakemake):
    with rule_log(snakemake.log[0]):
        files = [Path(file) for file in snakemake.input.files]
        workload = load_workload(
            snakemake.params.source,
            snakemake.params.options,
            # with remote storage, a copy of the folder that the configuration names
            files[0].parent if files else snakemake.params.data_dir,
            snakemake.input.get("tokenizer"),
        )
        if snakemake.input.vocabulary:
            vocabularies = (snakemake.input.tokenizer, snakemake.input.vocabulary)
            workload, change = retokenize(workload, *map(Vocabulary.load, vocabularies))
            logging.getLogger("marconi_core").info("translated\n%s", change.to_text())
        workload.save(snakemake.output.workload)


if "snakemake" in globals():
    main(snakemake)  # noqa: F821
