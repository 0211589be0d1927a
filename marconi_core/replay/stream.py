"""One streamed request, asynchronously."""

import asyncio
import json
from dataclasses import dataclass
from typing import Any

import aiohttp

from marconi_core.serving.client import QUOTED_BYTES
from marconi_core.serving.errors import ServingError

LONGEST_LINE = 2**24  # bytes; the last line has all output tokens


@dataclass
class Call:
    """A call of ``/generate``, filled in while it runs. Times are the event loop's, in seconds.

    Attributes:
        sent, first, end: sent, first token, last token; `first` is None before it came.
        meta: what the server counted.
        output_ids: tokens that came back.
    """

    sent: float = 0.0
    first: float | None = None
    end: float = 0.0
    meta: dict[str, Any] | None = None
    output_ids: tuple[int, ...] = ()

    def count(self, name: str) -> int:
        """Return a number of tokens that the server counted, 0 if nothing came."""
        return int((self.meta or {}).get(name, 0))


def connect(timeout_s: float) -> aiohttp.ClientSession:
    """Return a session with as many connections as there are requests.

    Each request has its own connection: one that was kept alive may be closed by the server just when
    it is used again.
    """
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, force_close=True),
        timeout=aiohttp.ClientTimeout(total=None, sock_read=timeout_s, sock_connect=timeout_s),
        read_bufsize=LONGEST_LINE,
    )


async def generate(session: aiohttp.ClientSession, url: str, body: bytes, call: Call) -> None:
    """Send a request that asks for a stream; fill in `call` as the answer comes.

    Raises:
        ServingError: no answer, an error as answer, a stream that breaks off, or silence for too long.
            `call` holds what came before.
    """
    loop = asyncio.get_running_loop()
    last, finished = b"", False
    call.sent = loop.time()
    try:
        async with session.post(
            f"{url}/generate", data=body, headers={"Content-Type": "application/json"}
        ) as response:
            if response.status != 200:
                text = (await response.read())[:QUOTED_BYTES].decode(errors="replace")
                raise _error(url, f"HTTP {response.status} {text}".rstrip())
            async for line in response.content:
                if not line.startswith(b"data:"):
                    continue
                data = line[len(b"data:") :].strip()
                if data == b"[DONE]":
                    finished = True
                    break
                call.end = loop.time()
                if call.first is None:
                    call.first = call.end
                last = data  # each line repeats what came before: only the last is parsed
    except TimeoutError as error:
        raise _error(url, f"nothing came for too long ({type(error).__name__})") from error
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise _error(url, f"{type(error).__name__}: {error}") from error
    if not finished or not last:
        raise _error(url, "the stream broke off before its end")
    _read_last(url, last, call)


def _read_last(url: str, line: bytes, call: Call) -> None:
    try:
        content = json.loads(line)
        if "error" in content:
            raise _error(url, str(content["error"])[:QUOTED_BYTES])
        call.meta = content["meta_info"]
        reason = call.meta.get("finish_reason") or {}
        if reason.get("type") == "abort":
            raise _error(url, f"aborted by the server: {reason.get('message', '')}"[:QUOTED_BYTES])
        missing = {"prompt_tokens", "cached_tokens", "completion_tokens"} - set(call.meta)
        if missing:
            raise _error(url, f"the reply lacks {', '.join(sorted(missing))}")
        call.output_ids = tuple(content.get("output_ids") or ())
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _error(url, f"not a reply: {line[:QUOTED_BYTES]!r} ({error})") from None


def _error(url: str, reason: str) -> ServingError:
    return ServingError(f"{url}/generate: {reason}")
