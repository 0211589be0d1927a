"""How far hits are from what the simulator predicts when several requests are in flight.

The simulator serves one request at a time. How many there are, and which of them finds what another
one leaves, is a matter of time; SGLang's own classes show what comes of it.
"""

import pytest
from marconi_sglang.settings import MarconiSettings

from marconi_core.sim.server import PoolSizes, server_simulator
from tests.patch.cpu_server import CpuServer, Setup
from tests.patch.faults import swap_buffers_once
from tests.patch.workloads import COSTS, SETTINGS, server
from tests.sglang_cpu import conversations
from tests.sglang_cpu.equality import policy_of

REQUESTS, STATES, KV_TOKENS, RUNNING, CHUNK = 120, 45, 400_000, 8, 8192
MOST_OUTPUT = 128
"""Tokens after which outputs are cut. Prompts are whole: cut ones would be the same at each turn."""


class Conversations:
    """The first requests of a family, with their sessions."""

    def __init__(self, family: str) -> None:
        trace = conversations.trace(family)
        self.requests = [
            (trace.input_tokens(i).tolist(), trace.output_tokens(i)[:MOST_OUTPUT].tolist())
            for i in range(REQUESTS)
        ]
        self.sessions = trace.session[:REQUESTS].tolist()
        self.prompt_tokens = sum(len(prompt) for prompt, _ in self.requests)

    def predicted(self, settings: MarconiSettings | None, strategy: str) -> float:
        """Return the token hit rate of one request at a time."""
        simulator = server_simulator(
            strategy,  # type: ignore[arg-type]
            PoolSizes(KV_TOKENS, STATES),
            policy_of(settings),
            COSTS,
            CHUNK,
        )
        hits = sum(simulator.serve(*request).hit for request in self.requests)
        return hits / self.prompt_tokens

    def served(self, settings: MarconiSettings | None, strategy: str, running: int) -> float:
        """Return the token hit rate with so many requests in flight at all times."""
        setup = Setup(
            KV_TOKENS,
            STATES,
            running=running,
            chunk=CHUNK,
            context=1 << 16,
            strategy=strategy,
            overlap=strategy == "extra_buffer",
            track_chunk=128,
            track_every=256,
        )
        load = server(setup, settings)
        self._drive(load, running)
        load.check()
        return sum(load.hits.values()) / self.prompt_tokens

    def _drive(self, load: CpuServer, running: int) -> None:
        """Send requests in order of arrival, but one of a session only after the one before."""
        waiting = list(range(len(self.requests)))
        in_flight: dict[str, int] = {}
        while waiting or in_flight:
            in_flight = {n: s for n, s in in_flight.items() if not load._scripts[n].finished}
            if len(in_flight) < running:
                ready = (i for i in waiting if self.sessions[i] not in in_flight.values())
                if (i := next(ready, None)) is not None:
                    waiting.remove(i)
                    in_flight[load.submit(*self.requests[i])] = self.sessions[i]
            load.step()
        load.finish()


@pytest.mark.parametrize("family", ["sharegpt", "agents"])
def test_marconi_is_close_to_what_is_predicted_and_above_stock(
    family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    swap_buffers_once(monkeypatch)
    trace = Conversations(family)
    predicted = trace.predicted(SETTINGS["alpha 0"], "extra_buffer")
    served = trace.served(SETTINGS["alpha 0"], "extra_buffer", RUNNING)
    assert served == pytest.approx(predicted, abs=0.05)
    assert served > trace.served(None, "extra_buffer", RUNNING)
