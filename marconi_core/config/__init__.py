"""The whole configuration of the workflow, checked before anything runs.

`load_config` turns a YAML file or a mapping into a frozen `Config`, or raises one `ConfigError`
that names every wrong key by its dotted path, suggests the nearest valid one, and says what to
write. ``workflow/config/README.md`` lists every option; its table is derived from these models.
"""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self

import yaml
from pydantic import (
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from marconi_core.assets import resource
from marconi_core.config.live import KEEP, TEKKEN, LiveConfig
from marconi_core.config.messages import OPTIONS, explain, unknown
from marconi_core.config.section import Section
from marconi_core.config.server import ServerConfig
from marconi_core.errors import ConfigError, MarconiError
from marconi_core.models import load_model
from marconi_core.policies import COMPARED, POLICIES
from marconi_core.report.roles import Role
from marconi_core.traces.arrivals import (
    Arrivals,
    PoissonArrivals,
    RecordedArrivals,
    TypingArrivals,
)
from marconi_core.traces.reading import read_document
from marconi_core.traces.sources import SOURCES, validate_params
from marconi_core.traces.sources.base import Source

DATASET_NAME = r"[a-z][a-z0-9_]*"

MAX_BYTES = 1 << 20  # of a file
MAX_MISTAKES = 20  # in a message

Rate = Annotated[float, Field(ge=1e-6, le=1e6)]
Bytes = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Alpha = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class RecordedTimes(Section):
    """A timed trace: one trace, which arrives as it did."""

    kind: Literal["recorded"] = Field(description="requests arrive at the times of the data set")

    def arrivals(self) -> Iterator[RecordedArrivals]:
        """Yield the one arrival process."""
        yield RecordedArrivals()


class TypingGrid(Section):
    """Users who type: one trace per session rate."""

    kind: Literal["typing"] = Field(description="turns arrive after the user has typed them")
    sessions_per_second: tuple[Rate, ...] = Field(
        min_length=1, description="session rates, one trace each", examples=[[0.5, 1, 2]]
    )
    words_per_minute: Rate = Field(90, description="typing speed")

    def arrivals(self) -> Iterator[TypingArrivals]:
        """Yield the arrival process of each trace of the grid."""
        for rate in self.sessions_per_second:
            yield TypingArrivals(sessions_per_second=rate, words_per_minute=self.words_per_minute)


class PoissonGrid(Section):
    """Agents that act: one trace per session rate and mean response time."""

    kind: Literal["poisson"] = Field(description="turns arrive after a Poisson-drawn think time")
    sessions_per_second: tuple[Rate, ...] = Field(
        min_length=1, description="session rates", examples=[[0.5, 1, 2]]
    )
    mean_response_time: tuple[Rate, ...] = Field(
        min_length=1, description="mean seconds between two turns", examples=[[5, 7.5, 10]]
    )
    seed: int = Field(42, ge=0, lt=2**32, description="seed of the think times")

    def arrivals(self) -> Iterator[PoissonArrivals]:
        """Yield the arrival process of each trace of the grid."""
        for rate in self.sessions_per_second:
            for mean in self.mean_response_time:
                yield PoissonArrivals(
                    sessions_per_second=rate, mean_response_time=mean, seed=self.seed
                )


@cache
def papers_grids() -> dict[str, Any]:
    """Return the paper's configurations of its data sets, as a configuration has them."""
    content = resource("expected/grids.yaml").read_text(encoding="utf-8")
    return dict(yaml.safe_load(content))


class DatasetConfig(Section):
    """One data set: where its sessions come from, how they arrive, which caches they meet."""

    source: str = Field(description="reader of the data set", examples=["sharegpt"])
    params: dict[str, Any] = Field(
        default_factory=dict, description="options of the reader, such as `path` of local files"
    )
    sessions: int = Field(ge=1, description="number of sessions", examples=[100])
    arrivals: RecordedTimes | TypingGrid | PoissonGrid = Field(
        discriminator="kind",
        description="how requests arrive",
        examples=[{"kind": "typing", "sessions_per_second": [0.5, 1]}],
    )
    capacities_bytes: tuple[Bytes, ...] = Field(
        min_length=1, description="cache sizes in bytes", examples=[[1e9, 4e9]]
    )
    bootstrap_multiplier: int = Field(
        5,
        ge=1,
        description="alpha is tuned when this many times the requests before the first eviction "
        "have been seen",
    )
    paper_dataset: Literal["lmsys", "sharegpt", "swebench"] | None = Field(
        None, description="data set of the paper that this one is, or stands in for"
    )
    optional: bool = Field(
        False, description="leave the data set out, and say so, when it cannot be had"
    )
    trace_dir: str | None = Field(
        None,
        description="folder of ready JSONL traces in the paper's format, named "
        "`DATASET_sps=..._nums=....jsonl`; replaces `source` as origin of the requests",
    )
    vocabulary: str | None = Field(
        None,
        description="vocabulary that the requests are translated into, from Llama-2's: a "
        "`tokenizer.json`, or `tekken`, which stands in for Nemotron-H's own",
    )

    @field_validator("source")
    @classmethod
    def _known_source(cls, source: str) -> str:
        if source not in SOURCES:
            raise ValueError(unknown("source", source, SOURCES))
        return source

    @model_validator(mode="after")
    def _valid_params(self) -> Self:
        if "sessions" in self.params:
            raise ValueError("params: `sessions` is an option of the data set, one level up")
        try:
            validate_params(self.reader, self.reader_params)
        except ConfigError as error:
            raise ValueError(f"params: {error}") from None
        return self

    @model_validator(mode="after")
    def _has_times(self) -> Self:
        recorded = isinstance(self.arrivals, RecordedTimes)
        if recorded and self.trace_dir is None and not self.reader.timed:
            timed = ", ".join(name for name, source in SOURCES.items() if source.timed)
            raise ValueError(
                f"arrivals.kind: source `{self.source}` has no recorded times; choose `typing` or "
                f"`poisson` (with times: {timed})"
            )
        return self

    @model_validator(mode="after")
    def _can_be_translated(self) -> Self:
        if self.vocabulary is None:
            return self
        if self.vocabulary != TEKKEN and not os.path.isfile(self.vocabulary):
            raise ValueError(
                f"vocabulary: {self.vocabulary} is no file; name a tokenizer.json, or `{TEKKEN}`"
            )
        if not self.needs_tokenizer:
            origin = "trace_dir has" if self.trace_dir else f"source `{self.source}` makes"
            raise ValueError(
                f"vocabulary: {origin} token ids; only texts that are read here are translated "
                "(a ready trace: `marconi retokenize`)"
            )
        return self

    @property
    def reader(self) -> Source:
        """The reader that `source` names."""
        return SOURCES[self.source]

    @property
    def reader_params(self) -> dict[str, Any]:
        """Options for the reader."""
        return {**self.params, "sessions": self.sessions}

    @property
    def files_needed(self) -> tuple[str, ...]:
        """Registered files that have to be fetched first: none where the user gives a path."""
        if self.trace_dir:
            return ()
        return self.reader.files_for(validate_params(self.reader, self.reader_params))

    @property
    def needs_tokenizer(self) -> bool:
        """Whether requests are made from text."""
        return self.trace_dir is None and self.reader.needs_tokenizer

    @property
    def has_texts(self) -> bool:
        """Whether the tokens stand for texts: read here, or in a ready trace."""
        return self.trace_dir is not None or self.reader.needs_tokenizer

    @property
    def papers_grid(self) -> bool:
        """Whether the data set is simulated in the paper's configurations of it."""
        if self.paper_dataset is None or self.trace_dir is not None:
            return True
        grid = papers_grids()[self.paper_dataset]
        papers = DatasetConfig.model_validate({"source": self.source, **grid})
        params = {key: value for key, value in self.params.items() if key != "path"}
        return not params and all(getattr(self, key) == getattr(papers, key) for key in grid)

    @property
    def own_files(self) -> list[str]:
        """The files that the option `path` names, all of a folder."""
        path = Path(self.params.get("path") or "")
        if not self.params.get("path") or self.trace_dir is not None:
            return []
        return sorted(str(file) for file in path.rglob("*") if file.is_file()) or [str(path)]

    @property
    def caveat(self) -> str | None:
        """What every label has to say of the data set."""
        return None if self.trace_dir else self.reader.caveat

    @property
    def stand_in(self) -> bool:
        """Whether the data only stands in for `paper_dataset`."""
        if self.trace_dir is not None:
            return False
        replaced = self.reader.stands_in and not self.params.get("path")
        return replaced or self.vocabulary is not None or self.source != self.paper_dataset


class Config(Section):
    """The whole configuration."""

    results_dir: str = Field(
        "results", min_length=1, description="folder for everything that is computed"
    )
    data_dir: str = Field("results/data", description="folder for data that is fetched")
    data_mirror: str | None = Field(
        None, description="folder tried before the network for every file"
    )
    model: str = Field(
        "paper_7b",
        description="model whose FLOPs and bytes are counted: a registered name, a JSON file with "
        "the five numbers of the paper's formulas, or a Hugging Face `config.json`",
    )
    policies: tuple[str, ...] = Field(
        COMPARED,
        description="policies to simulate, at least the default ones, which the figures compare",
    )
    alphas: tuple[Alpha, ...] = Field(
        tuple(tenths / 10 for tenths in range(21)),
        min_length=1,
        description="alphas that Marconi's tuner tries and that `oracle` keeps from start to end",
    )
    studies: tuple[Literal["ablation", "regret", "geometry"], ...] = Field(
        (),
        description="further simulations of the whole grid: `ablation` corrects the paper's quirks "
        "one by one, `regret` compares every policy with the best possible, `geometry` compares "
        "hybrid models",
    )
    datasets: dict[Annotated[str, Field(pattern=f"^{DATASET_NAME}$")], DatasetConfig] = Field(
        min_length=1, description="data sets by name; the name starts every trace's name"
    )
    server: ServerConfig | None = Field(
        None, description="simulations of a server with two pools; null: none"
    )
    live: LiveConfig | None = Field(None, description="live measurements; null: none")

    @field_validator("results_dir", "data_dir")
    @classmethod
    def _folder(cls, folder: str) -> str:
        return folder.rstrip("/") or "/"

    @field_validator("alphas")
    @classmethod
    def _with_zero(cls, alphas: tuple[float, ...]) -> tuple[float, ...]:
        if 0 not in alphas:
            raise ValueError("0 is missing, with which a tuned policy begins")
        return alphas

    @field_validator("policies")
    @classmethod
    def _known_policies(cls, policies: tuple[str, ...]) -> tuple[str, ...]:
        for policy in policies:
            if policy not in POLICIES:
                raise ValueError(unknown("policy", policy, POLICIES))
        if missing := [policy for policy in COMPARED if policy not in policies]:
            raise ValueError(f"add {', '.join(missing)}: the figures and claims compare them")
        return policies

    @field_validator("model")
    @classmethod
    def _known_model(cls, model: str) -> str:
        try:
            load_model(model)
        except MarconiError as error:
            raise ValueError(str(error)) from None
        return model

    @model_validator(mode="after")
    def _named_traces_exist(self) -> Self:
        names = [spec.name for spec in self.traces()]
        for trace in self.live.traces if self.live else ():
            if trace not in names:
                raise ValueError(f"live.traces: {unknown('trace', trace, names)}")
            dataset = self.datasets[self.trace(trace).dataset]
            if self.live and self.live.tokenizer != KEEP and not dataset.has_texts:
                raise ValueError(
                    f"live.traces: {trace} has made-up tokens (source `{dataset.source}`), which no "
                    f"`live.tokenizer` can translate; write `tokenizer: {KEEP}` to replay the ids as "
                    "they are, or replay another trace"
                )
            if dataset.vocabulary is not None:
                raise ValueError(
                    f"live.traces: {trace} is in another `vocabulary` already; replay the one in "
                    "Llama-2's, `live.tokenizer` translates it"
                )
        for trace in self.server.pools if self.server else ():
            if trace not in names:
                raise ValueError(f"server.pools: {unknown('trace', trace, names)}")
        return self

    def roles(self, datasets: Iterable[str]) -> list[Role]:
        """Return the roles of the named data sets in figures and claims."""
        chosen = ((name, self.datasets[name]) for name in datasets)
        usual = {name: Config.model_fields[name].default for name in ("model", "alphas")}
        papers = all(getattr(self, name) == value for name, value in usual.items())
        return [
            Role(name, one.paper_dataset, one.stand_in, one.caveat, papers and one.papers_grid)
            for name, one in chosen
        ]

    def traces(self, datasets: Sequence[str] | None = None) -> "list[TraceSpec]":
        """Return the traces of the named data sets (default: of all), in configuration order."""
        return [
            TraceSpec(f"{name}_{arrivals.label}_nums={dataset.sessions}", name, arrivals)
            for name, dataset in self.datasets.items()
            if datasets is None or name in datasets
            for arrivals in dataset.arrivals.arrivals()
        ]

    def trace(self, name: str) -> "TraceSpec":
        """Return the trace of that name.

        Raises:
            ConfigError: the configuration has no such trace.
        """
        specs = {spec.name: spec for spec in self.traces()}
        if name not in specs:
            raise ConfigError(unknown("trace", name, specs))
        return specs[name]


class TraceSpec(NamedTuple):
    """One trace of the grid: a data set under one arrival process."""

    name: str
    dataset: str
    arrivals: Arrivals


def load_config(source: str | os.PathLike[str] | Mapping[str, Any]) -> Config:
    """Check a configuration.

    Args:
        source: a YAML file, or its content as a mapping.

    Raises:
        ConfigError: the file cannot be read, or keys or values are wrong. The message has one line
            per mistake: dotted key, what is wrong, and what to write instead.
    """
    if isinstance(source, Mapping):
        where, content = "configuration", dict(source)
    else:
        where, content = str(source), _read_yaml(Path(source))
    try:
        return Config.model_validate(content)
    except ValidationError as error:
        lines = [explain(detail, Config) for detail in error.errors(include_url=False)]
        if len(lines) > MAX_MISTAKES:
            lines[MAX_MISTAKES:] = [f"{len(lines) - MAX_MISTAKES} more mistakes"]
        raise ConfigError("\n".join(f"{where}: {line}" for line in lines)) from None
    except UnicodeError as error:  # in a message of ours, which pydantic cannot take then
        raise ConfigError(f"{where}: a text has half a character ({error!s:.200})") from None


class _Loader(yaml.SafeLoader):
    """Refuses merge keys: a few lines of them can ask for more memory than there is."""

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        for key, _ in node.value:
            if key.tag == "tag:yaml.org,2002:merge":
                raise yaml.constructor.ConstructorError(
                    problem="merge keys (`<<`) are not supported; write the keys out",
                    problem_mark=key.start_mark,
                )


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        content = yaml.load(read_document(path, MAX_BYTES), _Loader)
    except OSError as error:
        raise ConfigError(f"{path}: cannot read the configuration: {error.strerror}") from None
    # beside YAMLError: not UTF-8, dates that are none, brackets without end
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: not valid YAML: {error!s:.400}") from None
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: expected `key: value` lines, see {OPTIONS}")
    return content
