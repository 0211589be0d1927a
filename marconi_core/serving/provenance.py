"""Where a live measurement comes from: host, GPU, driver, versions, commands, date."""

import datetime
import json
import os
import platform
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from marconi_core.provenance import code_digest, folder_digest
from marconi_core.serving import nvidia
from marconi_core.serving.errors import ServingError
from marconi_core.serving.memory import pool_memory
from marconi_core.serving.server import Server
from marconi_core.serving.spec import Runtime, ServerSpec

PACKAGES = (
    "sglang", "sglang-kernel", "flashinfer-python", "torch", "triton", "transformers", "tokenizers",
    "xgrammar", "numpy",
)  # fmt: skip
GPU_FIELDS = ("uuid", "name", "driver_version", "memory.total", "clocks.max.sm", "power.limit")
# settings of the server that decide what is cached and how long a request takes
SETTINGS = (
    "attention_backend", "chunked_prefill_size", "context_length", "cuda_graph_config",
    "disable_overlap_schedule", "disable_radix_cache", "dtype",
    "enable_metrics", "linear_attn_backend", "load_format", "mamba_backend",
    "mamba_full_memory_ratio", "mamba_radix_cache_strategy", "mamba_ssm_dtype",
    "mamba_track_interval", "max_mamba_cache_size", "max_prefill_tokens", "max_running_requests",
    "max_total_num_tokens", "max_total_tokens", "mem_fraction_static", "page_size",
    "radix_cache_backend", "radix_eviction_policy", "random_seed", "sampling_backend",
    "schedule_conservativeness", "schedule_policy", "stream_interval", "tp_size",
)  # fmt: skip

PLUGIN = "marconi_sglang"
# what decides what is sent, what is cached, and what is written down
CODE = (
    "serving", "replay", "policies", "sim/server", "models", "traces/prompts", "traces/trace",
    "traces/tree",
)  # fmt: skip

_ASK = """
import importlib, importlib.metadata, importlib.util, json, platform, sys
found = {"python": platform.python_version()}
for name in sys.argv[2:]:
    try:
        found[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        found[name] = "absent"
try:
    found["cuda (torch)"] = importlib.import_module("torch").version.cuda
except ImportError:
    pass
plugin = importlib.util.find_spec(sys.argv[1])
folder = plugin.submodule_search_locations[0] if plugin else None
print(json.dumps({"versions": found, "plugin": folder}))
"""


def devices(names: Sequence[str]) -> list[dict[str, str]]:
    """Return UUID, name, driver and limits of the GPUs that a server has."""
    known = nvidia.gpus("index", *GPU_FIELDS) if names else []
    served = {name: nvidia.named(name, known) for name in names}
    return [
        {field: gpu[field] for field in GPU_FIELDS}
        if gpu
        else {"name": name}  # a part of one, by MIG
        for name, gpu in served.items()
    ]


def host() -> dict[str, Any]:
    """Return which processor starts the kernels."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    models = (line.partition(": ")[2] for line in lines if line.startswith("model name"))
    return {"cpu": next(models, platform.processor()), "logical_cpus": os.cpu_count()}


def installed(environment: dict[str, str], python: Path) -> tuple[dict[str, str], Path | None]:
    """Return what the server runs on, as its own interpreter sees it.

    Args:
        environment: of the server.
        python: its interpreter.

    Returns:
        Versions, and the folder of the plug-in's package if there is one.

    Raises:
        ServingError: the interpreter does not answer.
    """
    command = [str(python), "-c", _ASK, PLUGIN, *PACKAGES]
    try:
        answer = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=120, check=True
        ).stdout
        found = json.loads(answer.splitlines()[-1])
    except (OSError, subprocess.SubprocessError, ValueError, IndexError) as error:
        raise ServingError(f"versions of {python} cannot be read: {error}") from error
    return found["versions"], Path(found["plugin"]) if found["plugin"] else None


def provenance(server: Server, runtime: Runtime) -> dict[str, Any]:
    """Return everything that a recorded measurement on this server must say, as JSON."""
    memory = pool_memory(server.process.log.read_text(errors="replace"))
    packages, plugin = installed(runtime.environment(server.spec), runtime.python)
    return {
        "label": server.spec.label,
        "weights": _weights(server.spec),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "devices": devices(server.gpus),
        "host": host(),
        "versions": packages,
        "code": code_digest(*CODE),
        "plugin": folder_digest(plugin) if plugin else None,
        "spec": server.spec.model_dump(),
        "arguments": server.spec.arguments(server.client.port),
        "start_s": round(server.start_s, 1),
        "pools": {
            "states": memory.states,
            "state_bytes": memory.state._asdict(),
            "kv_tokens": memory.kv_tokens,
            "kv_token_bytes": memory.kv_token._asdict(),
            "kv_dtype": memory.kv_dtype,
            "kv_gib": server.info.kv_gib,
            "weights_gib": server.info.weights_gib,
            "running_requests": server.info.running_requests,
        },
        "settings": {key: server.info.settings.get(key) for key in SETTINGS},
    }


def _weights(spec: ServerSpec) -> str:
    if spec.server == "simulated":
        return "none"
    return "random" if spec.random_weights else "real"
