"""The server simulator under `extra_buffer`; tests/patch holds it against SGLang's own classes."""

import pytest

from marconi_core.errors import PolicyError
from marconi_core.models.paper import Geometry, PaperModel
from marconi_core.sim.server import (
    ADMISSION_ONLY,
    STOCK,
    OverlapServerSimulator,
    PoolSizes,
    ServerPolicy,
    ServerSimulator,
    TrackGrid,
    TrackingServerSimulator,
    marconi,
    server_simulator,
)
from tests.unit.random_serving import serve_at_random

COSTS = PaperModel(Geometry(3, 1, 0, d=32, n=8))
ROOMY = PoolSizes(400_000, 200)


def tokens(start: int, count: int) -> list[int]:
    return list(range(start, start + count))


def stock(grid: TrackGrid | None = None, chunk: int | None = 8192) -> ServerSimulator:
    return server_simulator("extra_buffer", ROOMY, STOCK, chunk=chunk, grid=grid)


# What a live server said to be cached (Nemotron-H 8B, one H100, default settings).


def test_the_same_prompt_again() -> None:
    server = stock()
    prompt = tokens(0, 4_100)
    assert [server.serve(prompt, [9]).hit for _ in range(3)] == [0, 4_096, 4_096]


@pytest.mark.parametrize(("outputs", "hit"), [(40, 4_096), (600, 4_608)])
def test_the_next_turn(outputs: int, hit: int) -> None:
    """The output's last multiple of 256 tokens, if it has one."""
    server = stock()
    history = [*tokens(0, 4_100), *tokens(10_000, outputs)]
    server.serve(history[:4_100], history[4_100:])
    assert server.serve([*history, 1], [2]).hit == hit


@pytest.mark.parametrize(
    ("shared", "hits"), [(2_500, [0, 0, 2_432, 2_432]), (20_000, [0, 16_384, 19_968, 19_968])]
)
def test_a_shared_prefix(shared: int, hits: list[int]) -> None:
    """Checkpointed on second sight; until then the last end of a chunk serves."""
    server = stock()
    for number, hit in enumerate(hits):
        prompt = [*tokens(0, shared), *tokens(50_000 + 2_000 * number, 1_000)]
        assert server.serve(prompt, [1]).hit == hit


def test_a_prompt_that_goes_on() -> None:
    server = stock()
    server.serve(tokens(0, 5_000), [1])
    assert server.serve(tokens(0, 6_000), [1]).hit == 4_992


# The rest


def test_marconi_keeps_exact_positions_and_the_last_token() -> None:
    server = server_simulator("extra_buffer", ROOMY, marconi(), COSTS, 8192)
    first = [*tokens(0, 2_500), *tokens(5_000, 10)]
    assert server.serve(first, [7, 8, 9]).hit == 0
    assert server.serve([*first, 7, 8, 9, 1], [2]).hit == len(first) + 3
    assert server.serve([*tokens(0, 2_500), 6_000], [2]).branch == 2_500
    assert server.serve([*tokens(0, 2_500), 6_001], [2]).hit == 2_500


def test_a_short_prompt_leaves_nothing_in_a_stock_server() -> None:
    server = stock()
    server.serve(tokens(0, 127), tokens(1_000, 100))
    assert server.tree() == {}
    assert (server.free_tokens, server.free_states) == (ROOMY.kv_tokens, ROOMY.states)


def test_a_branch_point_off_the_grid_is_not_kept() -> None:
    """It is rounded to the grid of the whole prompt, and kept if it is on that of its chunk."""
    server = stock(TrackGrid(8, 1_000), chunk=20)
    server.serve(tokens(0, 60), [1, 2])
    assert _states(server) == [16, 36, 56]
    assert server.serve([*tokens(0, 50), *tokens(100, 20)], [1]).branch == 48
    assert _states(server) == [16, 36, 52, 56, 64]
    assert server.serve([*tokens(0, 30), *tokens(200, 20)], [1]).branch == 24
    assert _states(server) == [16, 24, 36, 44, 52, 56, 64]


@pytest.mark.parametrize("policy", [STOCK, ADMISSION_ONLY, marconi(1.0)], ids=str)
@pytest.mark.parametrize("chunk", [None, 9])
def test_no_slot_is_lost_and_no_hit_is_invented(policy: ServerPolicy, chunk: int | None) -> None:
    pools, grid = PoolSizes(250, 7), TrackGrid(4, 6)
    server = server_simulator("extra_buffer", pools, policy, COSTS, chunk, grid)
    serve_at_random(server, longest_output=20)


def test_a_copy_goes_its_own_way() -> None:
    server = stock(TrackGrid(8, 8), chunk=None)
    server.serve(tokens(0, 20), [1])
    before = server.tree()
    twin = server.copy()
    assert twin.serve(tokens(0, 30), [1]).hit == 16
    assert server.tree() == before != twin.tree()


def test_the_strategy_chooses_the_simulator() -> None:
    chosen = {
        (strategy, policy): type(server_simulator(strategy, ROOMY, policy, COSTS))
        for strategy in ("no_buffer", "extra_buffer")
        for policy in (STOCK, marconi())
    }
    assert list(chosen.values()) == [
        ServerSimulator,
        ServerSimulator,
        TrackingServerSimulator,
        OverlapServerSimulator,
    ]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: server_simulator("extra_buffer_lazy", ROOMY),  # type: ignore[arg-type]
            "unknown strategy 'extra_buffer_lazy'; choose one of: no_buffer, extra_buffer",
        ),
        (
            lambda: server_simulator("extra_buffer", PoolSizes(99, 4)),
            "at least 5 state slots, not 4",
        ),
        (lambda: TrackingServerSimulator(ROOMY, ADMISSION_ONLY), "only stock SGLang has track"),
        (lambda: TrackGrid(0), "cannot be tracked every 0 or 256 tokens"),
    ],
)
def test_what_cannot_be_is_named(make: object, message: str) -> None:
    assert callable(make)
    with pytest.raises(PolicyError, match=message):
        make()


def _states(server: ServerSimulator) -> list[int]:
    """Return the lengths of the prefixes whose states are cached."""
    return sorted(len(path) for path, state in server.tree().items() if state)
