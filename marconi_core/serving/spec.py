"""What a live server is: one frozen description, and the command line that starts it."""

import os
import re
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    PositiveInt,
    field_validator,
    model_validator,
)

import marconi_core
from marconi_core.assets import resource
from marconi_core.serving.errors import ServingError
from marconi_core.serving.fields import checked
from marconi_core.serving.weights import are_random

CHECKOUT = Path(marconi_core.__file__).parents[1]
"""Folder that this package is imported from."""

LAUNCHERS = {
    "sglang": "sglang.launch_server",
    "simulated": "marconi_core.serving.simulated",
}
"""Modules that start a server; they take the same command line."""

SECRET_FLAGS = ("--api-key", "--admin-api-key", "--ssl-keyfile-password")
"""Flags of SGLang whose values nobody else may read; command lines are logged and recorded."""
OTHER_NAMES = ("--tp-size", "--mamba-scheduler-strategy")
"""Of SGLang's flags that a field or the variant stands for, beside abbreviations."""

NAME = re.compile(r"\w+")  # "nemotron_h_8b"
HUB_NAME = re.compile(r"[\w-]+/[\w.-]+")  # "nvidia/Nemotron-H-8B-Base-8K"
WEIGHT_FILES = ("*.safetensors", "*.bin")
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "tokenizer_config.json")


class Variant(NamedTuple):
    """How a server keeps prefixes.

    Attributes:
        flags: what selects it on SGLang's command line.
        cache: class of its prefix cache, as SGLang's log names it.
        source: where SGLang's log says that the cache comes from.
        reuses: whether a prefix seen before can be hit.
    """

    flags: tuple[str, ...]
    cache: str
    source: str = "default"
    reuses: bool = True

    @property
    def strategy(self) -> str | None:
        """The one of `STRATEGIES` under which prefixes are kept, None if none are."""
        chosen = (name for name, flags in STRATEGIES.items() if set(flags) <= set(self.flags))
        return next(chosen, None)

    @property
    def is_marconi(self) -> bool:
        """Whether the plug-in serves it."""
        return "--enable-marconi" in self.flags


STRATEGIES = {
    # a state where a prefill chunk, a prompt or a request ends; SGLang refuses it with overlap
    "no_buffer": ("--mamba-radix-cache-strategy", "no_buffer", "--disable-overlap-schedule"),
    # SGLang's default for Nemotron-H: states at multiples of the model's chunk, overlap on
    "extra_buffer": ("--mamba-radix-cache-strategy", "extra_buffer"),
}

PLUGIN = {
    "admission_only": ("--marconi-admission-only",),
    "marconi": (),
    "seglen": ("--marconi-eviction-policy", "seglen"),
}
"""Flags that select what the plug-in does (`marconi_core/sim/server/settings.py`)."""


def plugin_variant(policy: str, strategy: str) -> str:
    """Return the name of the variant in which the plug-in serves a policy under a strategy."""
    return policy if strategy == "extra_buffer" else f"{policy}_{strategy}"


def _variants() -> dict[str, Variant]:
    """Every way of keeping prefixes: none; SGLang's own; the plug-in's, with overlap and without."""
    variants = {"no_cache": Variant(("--disable-radix-cache",), "ChunkCache", reuses=False)}
    for strategy, flags in STRATEGIES.items():
        variants[strategy] = Variant(flags, "UnifiedRadixCache")
    for policy, selected in PLUGIN.items():
        for strategy, flags in STRATEGIES.items():
            variants[plugin_variant(policy, strategy)] = Variant(
                (*flags, "--enable-marconi", *selected),
                "MarconiRadixCache",
                "registered('marconi')",
            )
    return variants


VARIANTS: dict[str, Variant] = _variants()


class ServerSpec(BaseModel):
    """One SGLang server. `None` leaves a capacity to SGLang.

    The fields say what is measured, not on which machine: see `Runtime` for that. Two runs with equal
    specs are comparable on the same device.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    server: Literal["sglang", "simulated"] = Field(
        "sglang", description="simulated: no GPU, no measurement; see `serving.simulated`"
    )
    sglang: str = Field("0.5.16", description="version that must answer")
    variant: str = Field(description="a key of `VARIANTS`")
    alpha: NonNegativeFloat | None = Field(
        None, description="weight of FLOP efficiency in the plug-in's eviction; None: tuned online"
    )
    model: str = Field(
        description="folder with config.json and weights; a name on the hub; for random weights also "
        "a name of `resources/models` or a JSON file of that kind"
    )
    served_name: str = Field(
        "model", min_length=1, description="name in the API and in captions; else the model's own"
    )
    weights: Literal["real", "dummy"] = Field(
        "dummy", description="dummy: random values; costs and cache are the same, the text is not"
    )
    tokenizer: str | None = Field(
        None,
        description="folder of a tokenizer, or a tokenizer.json; None: requests and replies are "
        "token ids",
    )
    context_length: PositiveInt = Field(33_000, description="tokens, prompt and output together")
    max_mamba_cache_size: PositiveInt | None = Field(None, description="SSM states in the pool")
    max_total_tokens: PositiveInt | None = Field(None, description="tokens in the KV pool")
    max_running_requests: PositiveInt | None = Field(None, description="requests at a time")
    chunked_prefill_size: int | None = Field(
        None, description="tokens a prefill step takes at most; -1: whole prompts"
    )
    ssm_dtype: Literal["float32", "bfloat16"] | None = Field(None, description="type of states")
    tensor_parallel: PositiveInt = Field(1, description="GPUs")
    attention_backend: str = Field("flashinfer", description="kernels of attention layers")
    decode_graph_batch: PositiveInt = Field(
        16, description="largest decode batch that runs as a CUDA graph; larger ones start slower"
    )
    prefill_graphs: bool | tuple[PositiveInt, ...] = Field(
        False,
        description="lengths in tokens of prefills that run as CUDA graphs, in pieces between Mamba layers; "
        "shorter ones are padded, to twice their length at most. true: SGLang's own 58, up to a chunk",
    )
    metrics: bool = Field(True, description="serve /metrics")
    forced_outputs: bool = Field(False, description="let requests choose their own output tokens")
    extra_flags: tuple[str, ...] = Field((), description="more flags of SGLang, one word each")

    @model_validator(mode="before")
    @classmethod
    def _is_named_after_its_model(cls, fields: Any) -> Any:
        if isinstance(fields, Mapping) and isinstance(model := fields.get("model"), str):
            if name := Path(model).name.removesuffix(".json").replace("_", "-").lower():
                return {"served_name": name, **fields}
        return fields

    @field_validator("variant")
    @classmethod
    def _known_variant(cls, variant: str) -> str:
        if variant not in VARIANTS:
            alpha = "; a fixed alpha is a field of its own (alpha=0.5)" if "@" in variant else ""
            raise ValueError(
                f"unknown variant '{variant}'; choose one of {', '.join(VARIANTS)}{alpha}"
            )
        return variant

    @field_validator("prefill_graphs", mode="before")
    @classmethod
    def _lengths(cls, given: Any) -> Any:
        words = given.split() if isinstance(given, str) else []
        return words if words and all(word.isdecimal() for word in words) else given

    @field_validator("chunked_prefill_size")
    @classmethod
    def _chunk(cls, size: int | None) -> int | None:
        if size is not None and size != -1 and size < 1:
            raise ValueError("must be at least 1, or -1 for whole prompts")
        return size

    @model_validator(mode="after")
    def _alpha_is_used(self) -> Self:
        if self.alpha is not None and not (
            VARIANTS[self.variant].is_marconi and "admission_only" not in self.variant
        ):
            raise ValueError(f"alpha: {self.variant} has no FLOP-aware eviction; leave alpha out")
        return self

    @model_validator(mode="after")
    def _extra_flags_are_extra(self) -> Self:
        for flag in self.extra_flags:
            name = flag.partition("=")[0]
            if not name.startswith("--"):
                continue
            if any(secret.startswith(name) for secret in SECRET_FLAGS):
                raise ValueError(
                    f"extra_flags: {name} would be recorded with every measurement; leave it out, "
                    "only this machine reaches the server"
                )
            # SGLang takes abbreviations
            if any(typed.startswith(name) for typed in self._typed_flags()):
                raise ValueError(f"extra_flags: {flag} has a field of its own, or is the variant's")
        return self

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> "ServerSpec":
        """Return a checked description.

        Raises:
            ServingError: names every wrong or unknown field.
        """
        return checked(cls, fields, "server")

    @property
    def tuned(self) -> bool:
        """Whether alpha is tuned online."""
        variant = VARIANTS[self.variant]
        evicts = variant.is_marconi and "--marconi-admission-only" not in variant.flags
        return evicts and self.alpha is None

    @property
    def label(self) -> str:
        """What a caption must say of this server."""
        alpha = "" if self.alpha is None else f" at alpha {self.alpha:g}"
        served = f"{self.served_name}, {self.variant}{alpha}"
        if self.server == "simulated":
            return f"simulated server, {served}"
        weights = ", random weights" if self.random_weights else ""
        return f"SGLang {self.sglang}, {served}{weights}"

    @property
    def random_weights(self) -> bool:
        """Whether texts have no meaning."""
        return self.weights == "dummy" or are_random(Path(self.model))

    @property
    def config_file(self) -> Path | None:
        """The file that describes the model where there is no folder of it."""
        registered = resource(f"models/{self.model}.json")
        if NAME.fullmatch(self.model) and registered.is_file():
            return registered
        file = Path(self.model)
        return file if file.suffix == ".json" and file.is_file() else None

    @property
    def needs_hub(self) -> bool:
        """Whether anything must be downloaded to start it."""
        return self.config_file is None and not Path(self.model).is_dir()

    def check_files(self) -> None:
        """Raise ServingError if the model or the tokenizer is not there; looks at local files."""
        model = Path(self.model)
        if self.config_file is not None:
            if self.weights == "real":
                raise ServingError(
                    f"weights: {self.config_file} only describes a model; name the folder that has "
                    "its weights, or set weights to 'dummy' for random ones"
                )
        elif not model.is_dir():
            if model.exists() or not HUB_NAME.fullmatch(self.model):
                names = ", ".join(sorted(file.stem for file in resource("models").glob("*.json")))
                raise ServingError(
                    f"model: {self.model} is no folder, no name on the hub "
                    f"('nvidia/Nemotron-H-8B-Base-8K') and none of {names}"
                )
        elif not (model / "config.json").is_file():
            raise ServingError(f"model: {model} has no config.json; name the model's own folder")
        elif self.weights == "real" and not any(
            file for pattern in WEIGHT_FILES for file in model.glob(pattern)
        ):
            raise ServingError(
                f"weights: {model} has no {' or '.join(WEIGHT_FILES)}; put the weights there, or "
                "set weights to 'dummy' for random ones"
            )
        if self.tokenizer is not None:
            place = Path(self.tokenizer)
            if place.is_file() and place.suffix == ".json":
                return
            if not any((place / name).is_file() for name in TOKENIZER_FILES):
                raise ServingError(
                    f"tokenizer: {place} is no tokenizer.json and has none of "
                    f"{', '.join(TOKENIZER_FILES)}; leave it out to send and receive token ids"
                )

    def _typed_flags(self) -> frozenset[str]:
        """Every flag that a field or the variant stands for, set or not."""
        fields = self.model_copy(
            update={
                "extra_flags": (), "alpha": 0.0, "max_mamba_cache_size": 1, "max_total_tokens": 1,
                "max_running_requests": 1, "chunked_prefill_size": 1, "ssm_dtype": "float32",
                "tokenizer": "-", "weights": "dummy", "metrics": True, "prefill_graphs": False,
                "forced_outputs": True,
            }
        )  # fmt: skip
        words = fields.arguments(0)
        words += fields.model_copy(update={"prefill_graphs": (1,)}).arguments(0)
        selecting = [flag for variant in VARIANTS.values() for flag in variant.flags]
        return frozenset(w for w in [*words, *selecting, *OTHER_NAMES] if w.startswith("--"))

    def arguments(self, port: int) -> list[str]:
        """Return the words after ``python -m sglang.launch_server``."""
        words = ["--model-path", self.model, "--served-model-name", self.served_name]
        words += ["--host", "127.0.0.1", "--port", str(port)]
        words += ["--context-length", str(self.context_length)]
        words += ["--attention-backend", self.attention_backend]
        words += ["--cuda-graph-max-bs-decode", str(self.decode_graph_batch)]
        words += ["--tensor-parallel-size", str(self.tensor_parallel)]
        # cached_tokens in every reply; PyTorch's sampler and no grammars: fewer kernels to compile
        words += ["--enable-cache-report", "--sampling-backend", "pytorch"]
        words += ["--grammar-backend", "none", "--uvicorn-access-log-exclude-prefixes", "/health"]
        if self.weights == "dummy":
            words += ["--load-format", "dummy"]
        if self.tokenizer is None:
            words += ["--skip-tokenizer-init"]
        else:
            words += ["--tokenizer-path", self.tokenizer]
        if not self.prefill_graphs:
            words += ["--disable-prefill-cuda-graph"]
        elif isinstance(self.prefill_graphs, tuple):
            words += ["--cuda-graph-bs-prefill", *map(str, self.prefill_graphs)]
        if self.metrics:
            words += ["--enable-metrics"]
        if self.forced_outputs:
            words += ["--enable-custom-logit-processor"]
        for flag, value in (
            ("--max-mamba-cache-size", self.max_mamba_cache_size),
            ("--max-total-tokens", self.max_total_tokens),
            ("--max-running-requests", self.max_running_requests),
            ("--chunked-prefill-size", self.chunked_prefill_size),
            ("--mamba-ssm-dtype", self.ssm_dtype),
            ("--marconi-eff-weight", self.alpha),
        ):
            if value is not None:
                words += [flag, str(value)]
        return [*words, *VARIANTS[self.variant].flags, *self.extra_flags]


@dataclass(frozen=True)
class Runtime:
    """The machine's side of a launch.

    Attributes:
        python: interpreter that has (or, with `site`, is given) SGLang.
        site: folder of an unpacked bundle, put in front of the interpreter's own packages.
        kernels: folder for compiled kernels; SGLang's own defaults if None. Both folders must keep
            their paths, or kernels that came with a bundle are compiled again.
    """

    python: Path = Path(sys.executable)
    site: Path | None = None
    kernels: Path | None = None

    def command(self, spec: ServerSpec, port: int) -> list[str]:
        """Return the command that serves `spec` on a port of the loopback interface."""
        return [str(self.python), "-m", LAUNCHERS[spec.server], *spec.arguments(port)]

    def environment(self, spec: ServerSpec, base: Mapping[str, str] = os.environ) -> dict[str, str]:
        """Return the environment variables of the server, on top of `base`."""
        variables = dict(base)
        variables["PYTHONUNBUFFERED"] = "1"
        variables.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")  # nvidia-smi's, as leases count
        # the config's 8192 is the training length; nothing in Nemotron-H depends on positions
        variables["SGLANG_ALLOW_OVERWRITE_LONGER_CONTEXT_LEN"] = "1"
        if not spec.needs_hub:
            variables["HF_HUB_OFFLINE"] = "1"
        # the plug-in needs this package, which need not be installed on a GPU node
        paths = [str(self.site or ""), base.get("PYTHONPATH", ""), str(CHECKOUT)]
        variables["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
        # kernels are compiled at first use by ninja, which may sit beside python only
        search = [str(self.python.parent), base.get("PATH", "")]
        variables["PATH"] = os.pathsep.join(filter(None, search))
        compiler = shutil.which("nvcc", path=variables["PATH"])
        if "CUDA_HOME" not in base and compiler:
            variables["CUDA_HOME"] = str(Path(compiler).resolve().parents[1])
        if self.kernels is not None:
            variables |= {
                "FLASHINFER_WORKSPACE_BASE": str(self.kernels),
                "TVM_FFI_CACHE_DIR": str(self.kernels / "tvm-ffi"),
                "TRITON_CACHE_DIR": str(self.kernels / "triton"),
                "TRITON_CACHE_AUTOTUNING": "1",
                "TORCHINDUCTOR_CACHE_DIR": str(self.kernels / "inductor"),
                "SGLANG_CACHE_DIR": str(self.kernels / "sglang"),
            }
        return variables
