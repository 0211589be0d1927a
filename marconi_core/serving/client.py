"""What to ask a server: health, settings, counters, and streamed requests with their times.

Blocking and for one request at a time; it adds no more than a fraction of a millisecond to a time to
first token. Only the standard library is needed.
"""

import http.client
import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from marconi_core.serving.errors import ServingError

FLUSH_PATIENCE_S = 10.0
QUOTED_BYTES = 300  # of a wrong reply, in a message

SAMPLE = re.compile(r"^([a-zA-Z_:][\w:]*)(?:\{(.*)\})?\s+(\S+)")
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


class Reply(NamedTuple):
    """One streamed request.

    Attributes:
        ttft_s: seconds from sending the request to its first token.
        total_s: seconds from sending the request to its last token.
        prompt_tokens: tokens of the prompt.
        cached_tokens: those of the prompt that were not computed.
        output_ids: tokens that came back; empty if the server has a tokenizer and sends text.
        output_tokens: their number, as the server counts.
        logprobs: log probabilities of the tokens asked for (`token_ids_logprob`), before the first
            output token was chosen; empty if none were.
    """

    ttft_s: float
    total_s: float
    prompt_tokens: int
    cached_tokens: int
    output_ids: tuple[int, ...]
    output_tokens: int
    logprobs: tuple[float, ...] = ()


class Sample(NamedTuple):
    """One value of ``/metrics``."""

    name: str
    labels: dict[str, str]
    value: float


class ServerInfo(NamedTuple):
    """What ``/server_info`` says.

    Attributes:
        version: of SGLang.
        kv_tokens: size of the KV pool in tokens.
        running_requests: requests that may run at a time.
        kv_gib: size of the KV pool in GiB, two decimals.
        weights_gib: memory that loading the weights took in GiB, two decimals.
        settings: every setting, resolved; values are JSON.
    """

    version: str
    kv_tokens: int
    running_requests: int
    kv_gib: float
    weights_gib: float
    settings: dict[str, Any]


class Client:
    """A server's address. Every failed call raises ServingError with the address and the reason.

    Args:
        port: on the loopback interface.
        timeout_s: longest silence during a call.
    """

    def __init__(self, port: int, timeout_s: float = 600.0) -> None:
        self.port = port
        self._timeout_s = timeout_s

    @property
    def url(self) -> str:
        """Where the server is."""
        return f"http://127.0.0.1:{self.port}"

    def status(self, path: str, timeout_s: float = 5.0) -> int | None:
        """Return the HTTP status of a GET, None if nothing answers."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout_s)
        try:
            connection.request("GET", path)
            return connection.getresponse().status
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()

    def get(self, path: str) -> bytes:
        """Return the body of a GET."""
        return self._call("GET", path)

    def post(self, path: str, body: object = None) -> bytes:
        """Return the body of the reply to a POST of JSON."""
        return self._call("POST", path, body)

    def json(self, path: str, body: object = None) -> Any:
        """Return a JSON reply: of a GET, or of a POST if there is a body."""
        content = self.get(path) if body is None else self.post(path, body)
        try:
            return json.loads(content)
        except ValueError:
            raise self._error(path, f"no JSON came back but {content[:QUOTED_BYTES]!r}") from None

    def info(self) -> ServerInfo:
        """Return the server's settings and the sizes of its pools."""
        raw = self.json("/server_info")
        try:
            state = raw["internal_states"][0]
            memory = state["memory_usage"]
            return ServerInfo(
                version=raw["version"],
                kv_tokens=memory["token_capacity"],
                running_requests=state["effective_max_running_requests_per_dp"],
                kv_gib=memory["kvcache"],
                weights_gib=memory["weight"],
                # of the scheduler: those that its start resolved are in no other process
                settings={**raw, **state, "internal_states": None},
            )
        except (KeyError, IndexError, TypeError) as error:
            raise self._error("/server_info", f"the reply lacks {error}") from None

    def metrics(self) -> list[Sample]:
        """Return the counters of ``/metrics`` (Prometheus text format)."""
        return parse_metrics(self.get("/metrics").decode())

    def flush(self) -> None:
        """Empty the prefix cache; waits for a running request to be cleared away."""
        deadline = time.monotonic() + FLUSH_PATIENCE_S
        while True:
            try:
                self.post("/flush_cache")
                return
            except ServingError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)

    def generate(
        self,
        input_ids: Sequence[int],
        output_tokens: int = 1,
        *,
        on_token: Callable[[], bool] = lambda: True,
        **options: object,
    ) -> Reply:
        """Send one prompt of token ids, greedy and of fixed output length; return what was seen.

        Args:
            input_ids: the prompt.
            output_tokens: tokens to generate, end-of-sequence ignored.
            on_token: called at each token; False ends the request, and the server aborts it.
            options: more keys for the request's body.

        Raises:
            ServingError: no answer, an error as answer, or a stream that breaks off.
        """
        sampling = {"max_new_tokens": output_tokens, "temperature": 0, "ignore_eos": True}
        body = {"input_ids": list(input_ids), "sampling_params": sampling, "stream": True}
        content = json.dumps({**body, **options})
        first: float | None = None
        last: Mapping[str, Any] = {}
        finished = False
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=self._timeout_s)
        try:
            connection.connect()
            start = time.perf_counter()
            connection.request("POST", "/generate", content, {"Content-Type": "application/json"})
            response = connection.getresponse()
            if response.status != http.client.OK:
                raise self._status_error("/generate", response.status, response.read())
            for line in response:
                if not line.startswith(b"data:"):
                    continue
                now = time.perf_counter()
                data = line.removeprefix(b"data:").strip()
                if data == b"[DONE]":
                    finished = True
                    break
                first = first or now
                end = now
                last = json.loads(data)
                if "error" in last:
                    raise self._error("/generate", str(last["error"])[:QUOTED_BYTES])
                if not on_token():
                    finished = True
                    break
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise self._error("/generate", f"{type(error).__name__}: {error}") from error
        finally:
            connection.close()
        if first is None or not finished:
            raise self._error("/generate", "the stream broke off before its end")
        try:
            meta = last["meta_info"]
            return Reply(
                ttft_s=first - start,
                total_s=end - start,
                prompt_tokens=meta["prompt_tokens"],
                cached_tokens=meta["cached_tokens"],
                output_ids=tuple(last.get("output_ids") or ()),
                output_tokens=meta["completion_tokens"],
                logprobs=tuple(
                    value for value, *_ in (meta.get("output_token_ids_logprobs") or [()])[0]
                ),
            )
        except KeyError as error:
            raise self._error("/generate", f"the reply lacks {error}") from None

    def _call(self, method: str, path: str, body: object = None) -> bytes:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=self._timeout_s)
        content = None if body is None else json.dumps(body)
        try:
            connection.request(method, path, content, {"Content-Type": "application/json"})
            response = connection.getresponse()
            reply = response.read()
        except (OSError, http.client.HTTPException) as error:
            raise self._error(path, f"{type(error).__name__}: {error}") from error
        finally:
            connection.close()
        if response.status != http.client.OK:
            raise self._status_error(path, response.status, reply)
        return reply

    def _status_error(self, path: str, status: int, reply: bytes) -> ServingError:
        text = reply[:QUOTED_BYTES].decode(errors="replace")
        return self._error(path, f"HTTP {status} {text}".rstrip())

    def _error(self, path: str, reason: str) -> ServingError:
        return ServingError(f"{self.url}{path}: {reason}")


def parse_metrics(text: str) -> list[Sample]:
    """Parse the Prometheus text format; comments and malformed lines are left out."""
    samples = []
    for line in text.splitlines():
        if match := SAMPLE.match(line):
            name, labels, value = match.groups()
            try:
                samples.append(Sample(name, dict(LABEL.findall(labels or "")), float(value)))
            except ValueError:
                continue
    return samples
