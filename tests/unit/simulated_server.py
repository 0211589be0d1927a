"""A simulated server in a thread of the tests' own process."""

import asyncio
import contextlib
import threading
from collections.abc import Iterator

from aiohttp import web

from marconi_core.models.latency import BatchTimes
from marconi_core.serving.client import Client
from marconi_core.serving.recorded_times import batch_times, latest_ttft
from marconi_core.serving.simulated.app import SimulatedServer
from marconi_core.serving.simulated.engine import Engine
from marconi_core.serving.simulated.faults import Fault
from marconi_core.sim.server.batching import BatchingServer

NO_BUFFER = batch_times(latest_ttft("no_buffer"))


@contextlib.contextmanager
def serving(
    batching: BatchingServer,
    *faults: str,
    times: BatchTimes = NO_BUFFER,
    speed: float = 200,
    context_length: int = 33_000,
) -> Iterator[Client]:
    """Serve on a free port until the block is left."""
    loop = asyncio.new_event_loop()
    ports: list[int] = []
    ready = threading.Event()

    async def start() -> None:
        server = SimulatedServer(
            Engine(batching, times, context_length, speed), "tiny", {"version": "0.5.16"}, forcing=True,
            faults=[Fault.of(fault) for fault in faults],
        )  # fmt: skip
        runner = web.AppRunner(server.app(), handler_cancellation=True, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        ports.append(runner.addresses[0][1])
        ready.set()
        await stopping.wait()
        await runner.cleanup()

    stopping = asyncio.Event()
    thread = threading.Thread(target=lambda: loop.run_until_complete(start()))
    thread.start()
    assert ready.wait(10)
    try:
        yield Client(ports[0])
    finally:
        loop.call_soon_threadsafe(stopping.set)
        thread.join(10)
        loop.close()
