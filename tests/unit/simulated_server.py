"""A simulated server in a thread of the tests' own process."""

import asyncio
import contextlib
import threading
from collections.abc import Iterator

from aiohttp import web

from marconi_core.serving.client import Client
from marconi_core.serving.simulated.app import SimulatedServer
from marconi_core.serving.simulated.cache import Cache
from marconi_core.serving.simulated.engine import Engine, Limits
from marconi_core.serving.simulated.faults import Fault
from marconi_core.serving.simulated.latency import Latency

FAST = Latency.recorded("no_buffer", speed=200)
ROOMY = Limits(context_length=33_000, running_requests=50)


@contextlib.contextmanager
def serving(
    cache: Cache, *faults: str, latency: Latency = FAST, limits: Limits = ROOMY
) -> Iterator[Client]:
    """Serve on a free port until the block is left."""
    loop = asyncio.new_event_loop()
    ports: list[int] = []
    ready = threading.Event()

    async def start() -> None:
        server = SimulatedServer(
            Engine(cache, latency, limits), "tiny", {"version": "0.5.16"}, forcing=True,
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
