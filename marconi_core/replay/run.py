"""Replays a trace on a server: sends what is due, whatever else is slow, and times every request."""

import asyncio
import json
import logging
from collections.abc import Callable
from typing import Any

import aiohttp
import numpy as np

from marconi_core.progress import Heartbeat
from marconi_core.replay.options import ReplayOptions
from marconi_core.replay.pace import arrivals_s, check_outputs, planned, previous_turns
from marconi_core.replay.rows import ReplayRow
from marconi_core.replay.slots import Slots
from marconi_core.replay.stream import Call, connect, generate
from marconi_core.serving.client import Client
from marconi_core.serving.errors import ServingError
from marconi_core.serving.forcing import PARAMETER, PROCESSOR
from marconi_core.traces.prompts import Prompts
from marconi_core.traces.trace import Trace

logger = logging.getLogger(__name__)

LEAD_S = 0.2  # before the first arrival, so that everything is prepared


def replay(
    trace: Trace,
    client: Client,
    options: ReplayOptions,
    on_row: Callable[[ReplayRow], None] = lambda row: None,
) -> list[ReplayRow]:
    """Replay a trace on a server that nobody else uses; return a row per request, in trace order.

    The cache is emptied first. The first failure ends the replay.

    Args:
        trace: what to send; sessions, order and arrival times are its own.
        client: the server; it must send token ids (no tokenizer).
        options: how; see `ReplayOptions`.
        on_row: called with each row when its request has ended, failed ones included; requests that
            a failure of another one cut short are such rows too.

    Raises:
        ReplayError: a request of the trace has no output.
        ServingError: a request failed.
    """
    requests = planned(trace, options)
    check_outputs(trace, requests)
    client.flush()
    return asyncio.run(_Replay(trace, client.url, options, requests, on_row).run())


def warm_up(trace: Trace, client: Client, options: ReplayOptions) -> None:
    """Replay the first `options.warmup` requests of a trace and keep nothing of it.

    Raises:
        ServingError: a request failed.
    """
    if requests := min(options.warmup, len(trace)):
        logger.info("warming up: %d requests", requests)
        replay(trace, client, options.model_copy(update={"requests": requests}))


class _Replay:
    def __init__(
        self,
        trace: Trace,
        url: str,
        options: ReplayOptions,
        requests: int,
        on_row: Callable[[ReplayRow], None] = lambda row: None,
    ) -> None:
        self._trace, self._url, self._options = trace, url, options
        self._requests, self._on_row = requests, on_row
        self._n_in, self._n_out = trace.n_in, trace.n_out
        self._prompts = Prompts(trace)
        self._slots = Slots(options.concurrency)
        self._previous = previous_turns(trace, requests)
        self._rows: list[ReplayRow] = []
        self._in_flight = self._prompt_tokens = self._cached_tokens = 0
        self._heartbeat = Heartbeat(
            logger, "%d of %d requests, %d in flight, %.1f %% of prompt tokens hit", interval_s=10
        )

    async def run(self) -> list[ReplayRow]:
        loop = asyncio.get_running_loop()
        self._start = loop.time() + LEAD_S
        arrivals = arrivals_s(self._trace, self._requests, self._options.speed)
        self._scheduled = (self._start + arrivals).tolist()
        self._arrived = [loop.create_future() for _ in range(self._requests)]
        self._ended = [loop.create_future() for _ in range(self._requests)]
        async with connect(self._options.timeout_s) as session:
            try:
                async with asyncio.TaskGroup() as group:
                    for i in range(self._requests):
                        group.create_task(self._request(session, i))
                    group.create_task(self._let_arrive())
            except BaseExceptionGroup as failures:
                raise failures.exceptions[0] from None
        if self._prompts.repeated:
            logger.info(
                "%d prompts were sent before, with an output of their own; replies may be equal",
                self._prompts.repeated,
            )
        return sorted(self._rows)

    async def _let_arrive(self) -> None:
        """Let requests arrive, those of the same time in the order of the trace."""
        loop = asyncio.get_running_loop()
        for i in np.argsort(self._scheduled, kind="stable").tolist():
            if (wait_s := self._scheduled[i] - loop.time()) > 0:
                await asyncio.sleep(wait_s)
            self._arrived[i].set_result(None)

    async def _request(self, session: aiohttp.ClientSession, i: int) -> None:
        """Wait until a request is due, send it, keep its row."""
        loop = asyncio.get_running_loop()
        due = self._scheduled[i]
        await self._arrived[i]
        if self._options.loop == "closed" and (previous := self._previous[i]) is not None:
            due = max(due, await self._ended[previous])
        due = max(due, await self._slots.take(i))
        call = Call()
        self._in_flight += 1
        error = "cut short: the replay was ended"
        try:
            await generate(session, self._url, self._body(i), call)
            self._check(i, call)
            error = ""
        except ServingError as failure:
            error = str(failure)
            raise
        finally:
            self._in_flight -= 1
            if error:
                call.end = loop.time()
            self._keep(self._row(i, due, call, error))
        if self._options.outputs == "substituted":
            self._prompts.replace(i, call.output_ids)
        self._ended[i].set_result(call.end)
        await asyncio.sleep(0)  # the next turn is to be among those that wait for the slot
        self._slots.give_back()

    def _body(self, i: int) -> bytes:
        output_tokens = int(self._n_out[i])
        sampling: dict[str, Any] = {
            "max_new_tokens": output_tokens, "temperature": 0, "ignore_eos": True,
            # two messages, with the first and the last token: the client has better things to do
            "stream_interval": output_tokens,
        }  # fmt: skip
        options: dict[str, Any] = {"sampling_params": sampling, "stream": True}
        if self._options.outputs == "forced":
            sampling["custom_params"] = {PARAMETER: self._trace.output_tokens(i).tolist()}
            options["custom_logit_processor"] = PROCESSOR
        return f'{{"input_ids": [{self._prompts.text(i)}], {json.dumps(options)[1:]}'.encode()

    def _check(self, i: int, call: Call) -> None:
        """Raise ServingError if the reply is not what was asked for."""
        wanted = int(self._n_out[i])
        found = len(call.output_ids)
        if (call.count("completion_tokens"), found) != (wanted, wanted):
            raise ServingError(
                f"{self._url}: request {i} asked for {wanted} tokens, {found} came back; the server "
                "must send token ids (no tokenizer)"
            )
        if call.count("prompt_tokens") != self._n_in[i]:
            raise ServingError(
                f"{self._url}: request {i} has {self._n_in[i]} prompt tokens, the server "
                f"counted {call.count('prompt_tokens')}"
            )
        if self._options.outputs == "forced" and not np.array_equal(
            call.output_ids, self._trace.output_tokens(i)
        ):
            raise ServingError(f"{self._url}: the reply to request {i} is not the forced one")

    def _row(self, i: int, due: float, call: Call, error: str) -> ReplayRow:
        def seconds(time: float) -> float:
            return round(time - self._start, 6)

        came = call.first is not None
        first = call.first or self._start
        return ReplayRow(
            request=i,
            session=int(self._trace.session[i]),
            turn=int(self._trace.turn[i]),
            prompt_tokens=call.count("prompt_tokens"),
            cached_tokens=call.count("cached_tokens"),
            output_tokens=call.count("completion_tokens"),
            scheduled_s=seconds(self._scheduled[i]),
            due_s=seconds(due),
            sent_s=seconds(call.sent),
            first_token_s=seconds(first),
            end_s=seconds(call.end),
            ttft_ms=round(1e3 * (first - call.sent), 3) if came else 0.0,
            error=error,
        )

    def _keep(self, row: ReplayRow) -> None:
        self._rows.append(row)
        self._on_row(row)
        self._prompt_tokens += row.prompt_tokens
        self._cached_tokens += row.cached_tokens
        hit_rate = self._cached_tokens / max(self._prompt_tokens, 1)
        self._heartbeat.beat(len(self._rows), self._requests, self._in_flight, 100 * hit_rate)
