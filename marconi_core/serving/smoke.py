"""The first test of a live server: a checklist that takes seconds."""

import random
import re
from collections.abc import Callable, Iterable
from typing import NamedTuple

from marconi_core.serving.errors import ServingError
from marconi_core.serving.memory import GIB, pool_memory
from marconi_core.serving.server import Server
from marconi_core.serving.spec import VARIANTS

TREE = re.compile(r"Tree cache initialized: source=(\S+) impl=(\S+) .*?hybrid_ssm=(\S+)")
PROMPT_TOKENS = 1_500  # more than a chunk of any strategy, so that a longer prompt hits
TURN_TOKENS = 200
TOKEN_IDS = range(1_000, 100_000)  # ordinary words in every vocabulary of this size


class Check(NamedTuple):
    """One line of the checklist; `passed` is None for what could not be tried."""

    name: str
    passed: bool | None
    detail: str


class _NotTriedError(Exception):
    """A check does not apply; carries the reason."""


def smoke_test(server: Server) -> list[Check]:
    """Ask a fresh server everything that live measurements rely on.

    A failed check is a row, never an exception. Empties the prefix cache.
    """
    checks: tuple[tuple[str, Callable[[Server], str]], ...] = (
        ("health", _health),
        ("version", _version),
        ("models", _models),
        ("hybrid architecture", _hybrid),
        ("cache class", _cache_class),
        ("generate, token ids", _generate),
        ("prefix cache", _prefix_cache),
        ("completion", _completion),
        ("chat completion", _chat),
        ("metrics", _metrics),
    )
    results = []
    for name, check in checks:
        try:
            results.append(Check(name, True, check(server)))
        except _NotTriedError as reason:
            results.append(Check(name, None, str(reason)))
        except ServingError as error:
            results.append(Check(name, False, str(error)))
        except (KeyError, IndexError, TypeError) as error:
            results.append(Check(name, False, f"the reply lacks {error}"))
    return results


def render(checks: Iterable[Check]) -> str:
    """Return the checklist as text, one line a check."""
    marks = {True: "ok", False: "FAILED", None: "not tried"}
    return "\n".join(f"{marks[c.passed]:>9}  {c.name}: {c.detail}" for c in checks)


def _require(condition: bool, reason: str) -> None:
    if not condition:
        raise ServingError(reason)


def _health(server: Server) -> str:
    status = server.client.status("/health")
    _require(status == 200, f"HTTP {status}")
    return f"HTTP 200, {server.start_s:.0f} s after launch"


def _version(server: Server) -> str:
    found = server.client.info().version
    _require(found == server.spec.sglang, f"{found} instead of {server.spec.sglang}")
    return f"SGLang {found}"


def _models(server: Server) -> str:
    names = [model["id"] for model in server.client.json("/v1/models")["data"]]
    _require(server.spec.served_name in names, f"{server.spec.served_name} is not among {names}")
    return ", ".join(names)


def _hybrid(server: Server) -> str:
    memory = pool_memory(server.process.log.read_text(errors="replace"))
    return (
        f"{memory.states} states of {memory.state.value / 1e6:.1f} MB and {memory.kv_tokens} KV "
        f"tokens of {memory.kv_token.value:.0f} bytes ({server.info.kv_gib:.1f} of "
        f"{memory.kv_tokens * memory.kv_token.value / GIB:.1f} GiB)"
    )


def _cache_class(server: Server) -> str:
    expected = VARIANTS[server.spec.variant]
    found = TREE.search(server.process.log.read_text(errors="replace"))
    if found is None:
        raise ServingError("the server's log does not say which prefix cache it uses")
    source, cache, hybrid = found.groups()
    _require(
        (source, cache, hybrid) == (expected.source, expected.cache, "True"),
        f"{cache} from {source}, hybrid_ssm={hybrid}; expected {expected.cache} from "
        f"{expected.source}, hybrid_ssm=True",
    )
    return f"{cache}, source {source}, hybrid_ssm=True"


def _generate(server: Server) -> str:
    reply = server.client.generate(_prompt(), 4)
    _require(
        (reply.prompt_tokens, reply.output_tokens) == (PROMPT_TOKENS, 4),
        f"{reply.prompt_tokens} prompt and {reply.output_tokens} output tokens instead of "
        f"{PROMPT_TOKENS} and 4",
    )
    return f"{reply.prompt_tokens} tokens in, {reply.output_tokens} out"


def _prefix_cache(server: Server) -> str:
    """A prompt is hit by longer ones, exactly if the server keeps prefixes.

    SGLang keeps it at first sight, Marconi at second sight, as it parts from another prompt there.
    """
    server.client.flush()
    prompt = _prompt()
    server.client.generate(prompt)
    for _ in range(2):
        cached = server.client.generate(prompt + _prompt()[:TURN_TOKENS]).cached_tokens
    if not VARIANTS[server.spec.variant].reuses:
        _require(cached == 0, f"{cached} tokens hit although the prefix cache is off")
        return "off, nothing hits"
    _require(cached > 0, "nothing hits")
    return f"on, at third sight {cached} of {PROMPT_TOKENS} tokens hit"


def _completion(server: Server) -> str:
    if server.spec.tokenizer is None:
        raise _NotTriedError("the server has no tokenizer")
    body = {
        "model": server.spec.served_name,
        "prompt": "The capital of France is",
        "max_tokens": 4,
        "temperature": 0,
    }
    reply = server.client.json("/v1/completions", body)
    text, usage = reply["choices"][0]["text"], reply["usage"]
    _require(usage["completion_tokens"] > 0, "no tokens came back")
    return f"{usage['prompt_tokens']} tokens in, {text!r} out{_caveat(server)}"


def _chat(server: Server) -> str:
    if server.spec.tokenizer is None:
        raise _NotTriedError("the server has no tokenizer")
    body = {
        "model": server.spec.served_name,
        "messages": [{"role": "user", "content": "What is the capital of France?"}],
        "max_tokens": 4,
        "temperature": 0,
    }
    reply = server.client.json("/v1/chat/completions", body)
    text, usage = reply["choices"][0]["message"]["content"], reply["usage"]
    _require(usage["completion_tokens"] > 0, "no tokens came back")
    return f"{usage['prompt_tokens']} tokens in, {text!r} out{_caveat(server)}"


def _metrics(server: Server) -> str:
    if not server.spec.metrics:
        raise _NotTriedError("the server was started without metrics")
    names = {sample.name for sample in server.client.metrics()}
    ours = [name for name in names if name.startswith("sglang:")]
    _require(bool(ours), "no metric is named sglang:...")
    return f"{len(ours)} series, such as {min(ours)}"


def _prompt() -> list[int]:
    """Return fresh random tokens: each call's prompt shares no prefix with any other."""
    return random.SystemRandom().choices(TOKEN_IDS, k=PROMPT_TOKENS)


def _caveat(server: Server) -> str:
    return " (random weights: the text has no meaning)" if server.spec.random_weights else ""
