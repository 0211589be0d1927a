"""Everything that reads what others wrote: each target is given the bytes of a file.

A target passes if the bytes are accepted and what came of them can be used, or if they are refused
with one `MarconiError` that names the file, or the source that reads it. Any other exception is a finding.
"""

import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from marconi_core.config import load_config
from marconi_core.errors import MarconiError
from marconi_core.models import load_hybrid_model, load_model
from marconi_core.traces.describe import describe
from marconi_core.traces.jsonl import read_trace, trace_sha256
from marconi_core.traces.sources import SOURCES, mooncake, sharegpt, sharegpt_long
from marconi_core.traces.tekken import build_tekken
from marconi_core.traces.tokenizers import build_llama2
from marconi_core.traces.trace import Requests, Trace, Workload
from marconi_core.traces.vocabulary import Vocabulary

MAX_MESSAGE = 10_000  # characters: one message that can be read, not a dump of the input


def one_byte_a_token(texts: Sequence[str]) -> list[np.ndarray]:
    return [np.frombuffer(text.encode(), np.uint8).astype(np.int32) for text in texts]


def use(requests: Requests) -> None:
    """Compute what every user of requests computes, from all of their fields."""
    requests.digest()
    for i in range(min(len(requests), 5)):
        assert len(requests.input_tokens(i)) == requests.n_in[i] > 0
        assert len(requests.output_tokens(i)) == requests.n_out[i] >= 0
    if isinstance(requests, Workload):
        requests = requests.schedule(np.arange(len(requests), dtype=np.float64))
    describe(requests)
    trace_sha256(requests)


def read_source(name: str, path: Path) -> None:
    """Let a source read the file, and compile what it finds."""
    source = SOURCES[name]
    least = {"min_messages", "min_rounds", "min_turns"} & source.params.model_fields.keys()
    options: dict[str, Any] = dict.fromkeys(least, 1)
    if "path" in source.params.model_fields and name != "swebench":
        options["path"] = path
    params = source.params.model_validate(options | {"sessions": 1})
    files = dict.fromkeys(source.files_needed, path)
    with patch.object(
        sharegpt_long,
        "ShareGptParams",
        partial(sharegpt.ShareGptParams, sessions=1, min_messages=1),
    ):
        use(Workload.build(source.read(params, files, one_byte_a_token), name))


def read_mooncake(path: Path) -> None:
    """Read all requests, outputs apart and repeated."""
    for continued in (False, True):
        use(Trace.build(mooncake.read_requests(path, continued)))


def read_honeycomb(path: Path) -> None:
    source = SOURCES["swebench"]
    params = source.params.model_validate({"sessions": 1, "path": path.parent})
    use(Workload.build(source.read(params, {}, one_byte_a_token), source.name))


READERS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "jsonl": ("t.jsonl", lambda path: use(read_trace(path))),
    "jsonl_gz": ("t.jsonl.gz", lambda path: use(read_trace(path))),
    "jsonl_xz": ("t.jsonl.xz", lambda path: use(read_trace(path))),
    "compiled_trace": ("t.npz", lambda path: use(Trace.load(path))),
    "compiled_workload": ("t.npz", lambda path: use(Workload.load(path))),
    "mooncake": ("t.jsonl", read_mooncake),
    "sharegpt": ("t.json", partial(read_source, "sharegpt")),
    "sharegpt_long": ("t.json", partial(read_source, "sharegpt_long")),
    "swebench": ("t.jsonl", partial(read_source, "swebench")),
    "honeycomb": ("t.json", read_honeycomb),
    "tau_airline": ("t.jsonl", partial(read_source, "tau_airline")),
    "lmsys": ("t.jsonl", partial(read_source, "lmsys")),
    "wildchat": ("t.jsonl", partial(read_source, "wildchat")),
    "parquet": ("t.parquet", partial(read_source, "wildchat")),
    "gguf": ("t.gguf", lambda path: build_llama2(path, path.with_name("made.json"))),
    "tekken": ("t.json", lambda path: build_tekken(path, path.with_name("made.json"))),
    "tokenizer": ("tokenizer.json", Vocabulary.load),
    "config": ("t.yaml", load_config),
    "model": ("config.json", lambda path: load_model(str(path))),
    "hybrid_model": ("config.json", lambda path: load_hybrid_model(str(path))),
}
"""By name: what the file is called, and what reads it."""


def run(name: str, content: bytes) -> bool:
    """Return whether a target accepts the bytes; raise what it should not raise."""
    filename, read = READERS[name]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / filename
        path.write_bytes(content)
        try:
            read(path)
        except MarconiError as error:
            message = str(error)
            assert any(named in message for named in (filename, folder, *SOURCES)), message
            assert len(message) < MAX_MESSAGE, message[:MAX_MESSAGE]
            return False
    return True
