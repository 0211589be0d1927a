# Helpers only: the checked configuration, and which data sets and traces take part.
import re
import sys
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

from snakemake.exceptions import WorkflowError

from marconi_core import datasets as registry
from marconi_core.config import load_config
from marconi_core.config.live import KEEP, TEKKEN
from marconi_core.errors import ConfigError
from marconi_core.experiments import EXPERIMENTS, FIGURES
from marconi_core.experiments.geometry import SERVED
from marconi_core.models import model_files
from marconi_core.provenance import code_digest
from marconi_core.rules.availability import VOCABULARY, read_reasons
from marconi_core.rules.experiments import arrivals_of, settings, trace_name
from marconi_core.rules.live import recorded_inputs
from marconi_core.rules.study import grid, title
from marconi_core.serving.build import PATCHES, releases
from marconi_core.sim.server.sweep import CODE as SERVER_CODE
from marconi_core.sim.simulation import CODE

try:
    STUDY = load_config(config)
except ConfigError as error:
    raise WorkflowError(str(error)) from None

REGISTERED = {registry.lookup(name).filename: name for name in registry.registry()}
REQUIRED = [dataset for dataset in STUDY.datasets.values() if not dataset.optional]
OPTIONAL = [name for name, dataset in STUDY.datasets.items() if dataset.optional]


# Figures and pages show results of simulations, the names, colours and formulas behind them, and what the paper says.
FIGURE_CODE = (
    "resources/expected",
    "plots",
    "report",
    "serving/recorded_times",
    "serving/recordings",
    "models",
    "policies",
)


wildcard_constraints:
    file="|".join(map(re.escape, REGISTERED)),
    dataset="|".join(STUDY.datasets),
    trace="|".join(re.escape(spec.name) for spec in STUDY.traces()),


def availability(wildcards):
    """The file that says which optional data sets can be had, if there are optional ones."""
    return checkpoints.availability.get().output.reasons if OPTIONAL else []


def left_out(wildcards):
    """Reasons by name of the optional data sets that cannot be had."""
    path = availability(wildcards)
    return (
        {name: why for name, why in read_reasons(path).items() if why} if path else {}
    )


def used(wildcards):
    """Names of the data sets that take part."""
    missing = left_out(wildcards)
    return [name for name in STUDY.datasets if name not in missing]


def roles(wildcards):
    """Roles of the data sets that take part, as plain values."""
    return [asdict(role) for role in STUDY.roles(used(wildcards))]


def of_all_traces(pattern):
    """Input function: a file of every trace of the data sets that take part."""
    return lambda wildcards: [
        pattern.format(trace=spec.name) for spec in STUDY.traces(used(wildcards))
    ]


def of_all_datasets(pattern):
    """Input function: a file of every data set that takes part."""
    return lambda wildcards: [pattern.format(dataset=name) for name in used(wildcards)]


def data_file(name):
    return f"<data>/{registry.lookup(name).filename}"


def tokenizer_of(dataset):
    return "<data>/llama2-tokenizer.json" if dataset.needs_tokenizer else []


def vocabulary_file(name):
    """The tokenizer.json that a configuration names as the vocabulary to translate into."""
    return {TEKKEN: "<data>/tekken-tokenizer.json", KEEP: [], None: []}.get(name, name)


def compiled(wildcards):
    """The compiled file that holds a trace's requests."""
    spec = STUDY.trace(wildcards.trace)
    ready = STUDY.datasets[spec.dataset].trace_dir is not None
    return f"<results>/traces/{spec.name if ready else spec.dataset}.npz"


def dataset_of(wildcards):
    return STUDY.datasets[wildcards.dataset]


def experiment_files(wildcards):
    """The compiled data set; or, of ready traces, those that the experiment needs."""
    name = wildcards.dataset
    files = [name]
    if STUDY.datasets[name].trace_dir is not None:
        needed = arrivals_of(STUDY, wildcards.experiment, name)
        files = [trace_name(STUDY, name, arrivals) for arrivals in needed]
    return [f"<results>/traces/{file}.npz" for file in files]


def models_of(experiment):
    """The files of the models that an experiment is about."""
    return model_files(STUDY.model, *(SERVED if experiment == "geometry" else ()))


def taking_part(experiment, wildcards):
    """Names of the data sets on which an experiment is run."""
    return [name for name in used(wildcards) if arrivals_of(STUDY, experiment, name)]


def rows_of(experiment):
    """Input function: an experiment's rows of every data set on which it is run."""
    return lambda wildcards: [
        f"<results>/experiments/{experiment}/{name}.parquet"
        for name in taking_part(experiment, wildcards)
    ]


def rows_behind_claims(wildcards):
    """Rows behind all figures of the paper for which there is a data set."""
    return [path for name in FIGURES for path in rows_of(name)(wildcards)]


def figures_of_experiments(wildcards):
    """The figures for which there is a data set, and those of the studies asked for."""
    return [
        f"<results>/figures/{name}.svg"
        for name in (*FIGURES, *STUDY.studies)
        if taking_part(name, wildcards)
    ]


def of_server_traces(pattern):
    """Input function: a file of every trace of the study whose data set takes part."""
    return lambda wildcards: [
        pattern.format(trace=spec.name)
        for spec in STUDY.traces(used(wildcards))
        if spec.name in STUDY.server.pools
    ]
