"""A small valid file for each target: what fuzzers start from."""

import gzip
import io
import json
import lzma
import struct
import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from marconi_core.assets import resource
from marconi_core.traces.tokenizers import llama2_json
from marconi_core.traces.trace import Request, SessionTokens, Trace, TurnTokens, Workload

ROLES = ("system", "user", "assistant", "tool", "assistant")
MESSAGES = [{"role": role, "content": f"one two {i}"} for i, role in enumerate(ROLES)]
HUB_ROW = {
    "conversation": [{"role": role, "content": "hi there"} for role in ("user", "assistant")],
    "turn": 1,
    "language": "English",
}
SHAREGPT = [
    {
        "id": f"{name}_0",
        "conversations": [{"from": "human", "value": "hi you"}, {"from": "gpt", "value": "hi"}],
    }
    for name in "ab"
]
TRACE_LINES = [
    {
        "session_id": turn % 2,
        "turn_id": turn,
        "ts": turn / 2,
        "num_input_tokens": 2 + turn,
        "num_output_tokens": 1,
        "input_tokens": [1, *range(1 + turn)],
        "output_tokens": [7],
    }
    for turn in range(3)
]
MOONCAKE_LINES = [
    {"timestamp": 0, "input_length": 600, "output_length": 2, "hash_ids": [0, 1]},
    {"timestamp": 3000, "input_length": 1024, "output_length": 0, "hash_ids": [0, 2]},
    {"timestamp": 6000, "input_length": 1100, "output_length": 1, "hash_ids": [0, 2, 3]},
    {"timestamp": 9000, "input_length": 1200, "output_length": 1, "hash_ids": [0, 2, 4]},
    {"timestamp": 9000, "input_length": 1200, "output_length": 1, "hash_ids": [0, 2, 4]},
]
CONFIG = {
    "datasets": {
        "chats": {
            "source": "synthetic",
            "params": {"mix": {"chat": 1.0}},
            "sessions": 3,
            "arrivals": {"kind": "typing", "sessions_per_second": [0.25, 1]},
            "capacities_bytes": [1e9],
            "optional": True,
        },
        "agents": {
            "source": "synthetic",
            "paper_dataset": "swebench",
            "sessions": 3,
            "arrivals": {
                "kind": "poisson",
                "sessions_per_second": [1],
                "mean_response_time": [5, 7.5],
                "seed": 4,
            },
            "capacities_bytes": ["1e9"],
        },
    },
    "model": "paper_7b",
    "data_mirror": None,
    "alphas": [0, 0.5],
    "studies": ["regret"],
    "policies": ["vllm_plus", "sglang_plus", "marconi"],
    "server": {"pools": {"chats_sps=1_nums=3": [{"states": 40, "kv_tokens": 1760000}]}},
    "live": {
        "traces": ["chats_sps=1_nums=3"],
        "tokenizer": "keep",
        "replay": {"concurrency": 8},
        "settings": {"weights": "dummy"},
    },
}
FIVE_NUMBERS = {
    "num_ssm_layers": 24, "num_attn_layers": 4, "num_mlp_layers": 28, "d": 4096, "n": 128,
}  # fmt: skip

DOCUMENTS: dict[str, Any] = {
    "jsonl": TRACE_LINES,
    "mooncake": MOONCAKE_LINES,
    "swebench": [{"instance_id": "x", "messages": [*MESSAGES[:2], *MESSAGES[2:]]}],
    "tau_airline": [{"task_id": 0, "trial": 0, "messages": MESSAGES}],
    "lmsys": [HUB_ROW],
    "wildchat": [HUB_ROW],
    "sharegpt": SHAREGPT,
    "sharegpt_long": [*SHAREGPT, SHAREGPT[0] | {"id": "c_0"}],
    "honeycomb": MESSAGES[1:3],
    "config": CONFIG,
    "model": FIVE_NUMBERS,
    "hybrid_model": json.loads(resource("models/nemotron_h_8b.json").read_text()),
    "tekken": {"config": {"pattern": "."}, "vocab": [{"token_bytes": "AA=="}]},
    "tokenizer": json.loads(
        llama2_json(["<unk>", "<s>", "</s>", *(f"<0x{i:02X}>" for i in range(256)), "\u2581"])
    ),
}
"""JSON, by target; a list is one line each where the format has lines."""

LINES = {"jsonl", "mooncake", "swebench", "tau_airline", "lmsys", "wildchat"}


def written(name: str, document: Any) -> bytes:
    """Return the file that holds a document."""
    if name in LINES and isinstance(document, list):
        return "".join(json.dumps(row) + "\n" for row in document).encode()
    return json.dumps(document).encode()  # YAML is a superset


def seed(name: str) -> bytes:
    """Return a valid file for a target; the vocabularies alone are refused in the end, by their hash."""
    if name in DOCUMENTS:
        return written(name, DOCUMENTS[name])
    return _BINARY[name]()


def _gguf() -> bytes:
    key = b"tokenizer.ggml.tokens"
    pieces = [b"<unk>", b"<s>", b"</s>", b"a"]
    strings = b"".join(struct.pack("<Q", len(piece)) + piece for piece in pieces)
    header = b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, len(key)) + key
    return header + struct.pack("<IIQ", 9, 8, len(pieces)) + strings


def _parquet() -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.Table.from_pylist([HUB_ROW]), file)
    return file.getvalue()


def _saved(compiled: Trace | Workload) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        compiled.save(path := Path(folder) / "t.npz")
        return path.read_bytes()


def trace() -> Trace:
    return Trace.build(
        Request(r["session_id"], r["turn_id"], r["ts"], r["input_tokens"], r["output_tokens"])
        for r in TRACE_LINES
    )


def workload() -> Workload:
    turns = [TurnTokens([1, 2], [3], 4), TurnTokens([1, 2, 3, 4], [5], 6)]
    return Workload.build(
        [SessionTokens(7, turns, 3), SessionTokens("empty", [], 1), SessionTokens(8, turns, 2)]
    )


_BINARY = {
    "jsonl_gz": lambda: gzip.compress(seed("jsonl"), mtime=0),
    "jsonl_xz": lambda: lzma.compress(seed("jsonl")),
    "compiled_trace": lambda: _saved(trace()),
    "compiled_workload": lambda: _saved(workload()),
    "parquet": _parquet,
    "gguf": _gguf,
}
