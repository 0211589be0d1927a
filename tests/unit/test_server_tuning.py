"""Online tuning: what is replayed when, what is chosen, and the process that does it."""

import io
import json
import subprocess
import sys
from collections.abc import Callable

import pytest

from marconi_core.errors import PolicyError
from marconi_core.models.paper import Geometry, PaperModel
from marconi_core.policies.two_pool import EvictionSettings
from marconi_core.sim.server import ADMISSION_ONLY, PoolSizes, ServerSimulator, marconi
from marconi_core.sim.server.judging import best
from marconi_core.sim.server.leader import FollowLeader
from marconi_core.sim.server.tuning import Following, OnlineTuner
from marconi_core.sim.server.windows import ReplayWindows
from marconi_core.sim.server.worker import follow, read_frame, write_frame
from tests.unit.random_serving import conversations

COSTS = PaperModel(Geometry(3, 1, 0, d=32, n=8))
SIZES = PoolSizes(2_000, 8)
Request = tuple[list[int], list[int]]


ALPHAS = (0.0, 0.5, 2.0)


def windows(**changes: object) -> Following:
    given: dict[str, object] = {"multiplier": 2, "interval": 15, "alphas": ALPHAS}
    method = ReplayWindows(**given | changes)  # type: ignore[arg-type]
    return Following(SIZES, marconi(branch_gain=1), COSTS, method=method)


def leader(**changes: object) -> Following:
    method = FollowLeader(ALPHAS, **changes)  # type: ignore[arg-type]
    return Following(SIZES, marconi(branch_gain=1), COSTS, method=method)


each_method = pytest.mark.parametrize("following", [windows, leader])


def test_the_window_is_replayed_from_the_cache_at_its_start() -> None:
    requests = conversations(60)
    tuner = OnlineTuner(windows())
    for request in requests:
        tuner.observe(*request)
    first = tuner.simulator.first_eviction
    assert [tuning.request for tuning in tuner.history] == list(range(3 * first, 61, 15))

    by_hand = {}
    for alpha in (0.0, 0.5, 2.0):
        simulator = ServerSimulator(SIZES, marconi(branch_gain=1), COSTS)
        for request in requests[:first]:
            simulator.serve(*request)
        simulator.configure(EvictionSettings(alpha=alpha))
        hits = [simulator.serve(*request).hit for request in requests[first : 3 * first]]
        by_hand[alpha] = sum(COSTS.flops(hit) for hit in hits)
    assert tuner.history[0].scores == by_hand
    assert len(set(by_hand.values())) > 1
    assert tuner.history[0].alpha == best(by_hand, 0.0)


def test_a_given_window_takes_the_place_of_the_multiplier() -> None:
    tuner = OnlineTuner(windows(window=7))
    for request in conversations(40):
        tuner.observe(*request)
    assert tuner.history[0].request == tuner.simulator.first_eviction + 7


def test_the_simulator_goes_on_with_the_chosen_alpha() -> None:
    tuner = OnlineTuner(windows(alphas=(2.0,)))
    assert tuner.alpha == 0
    for request in conversations(60):
        tuner.observe(*request)
    assert tuner.alpha == 2


def test_a_window_of_long_requests_is_cut_short() -> None:
    tuner = OnlineTuner(windows(most_tokens=300))
    for request in conversations(40):
        tuner.observe(*request)
    assert tuner.history[0].request < 3 * tuner.simulator.first_eviction


def test_each_shadow_serves_every_request_with_its_own_alpha() -> None:
    requests = conversations(80)
    tuner = OnlineTuner(leader(half_life=20.0, lead=0.1))
    alone = {
        alpha: ServerSimulator(SIZES, marconi(alpha, branch_gain=1), COSTS) for alpha in ALPHAS
    }
    saved, current, tunings = dict.fromkeys(ALPHAS, 0.0), 0.0, 0
    for number, request in enumerate(requests, 1):
        tuner.observe(*request)
        for alpha, simulator in alone.items():
            hit = simulator.serve(*request).hit
            saved[alpha] = saved[alpha] * 0.5 ** (1 / 20) + COSTS.flops(hit)
        ahead = {alpha: saved[alpha] / (1.1 if alpha else 1) for alpha in ALPHAS}
        if best(ahead, current) != current:
            current, tunings = best(ahead, current), tunings + 1
            assert tuner.history[-1].request == number
            assert tuner.history[-1].scores == pytest.approx(saved)
        assert tuner.alpha == current
    assert len(tuner.history) == tunings >= 2


def test_a_lead_that_is_too_small_does_not_count() -> None:
    requests = conversations(80)
    histories = []
    for lead in (0.0, 1e6):
        tuner = OnlineTuner(leader(lead=lead))
        for request in requests:
            tuner.observe(*request)
        histories.append(tuner.history)
    assert histories[0] and not histories[1]


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: FollowLeader(()), "no alpha to choose"),
        (lambda: FollowLeader(half_life=0), "half-life of 0"),
        (lambda: FollowLeader(lead=-1), "lead is -1"),
        (lambda: ReplayWindows(alphas=()), "no alpha to choose"),
        (lambda: ReplayWindows(interval=0), "interval is 0"),
    ],
)
def test_impossible_settings(make: Callable[[], object], reason: str) -> None:
    with pytest.raises(PolicyError, match=reason):
        make()


def test_of_equal_scores_the_current_alpha_stays() -> None:
    assert best({0.0: 5, 0.5: 9, 1.0: 9}, 1.0) == 1.0
    assert best({0.0: 5, 0.5: 9, 1.0: 9}, 0.0) == 0.5
    assert best({0.0: 9, 0.5: 5}, 0.5) == 0.0


@pytest.mark.parametrize("policy", [ADMISSION_ONLY, marconi(objective="lru", branch_gain=1)])
def test_recency_alone_cannot_be_tuned(policy: object) -> None:
    with pytest.raises(PolicyError, match="no alpha to tune"):
        Following(SIZES, policy, COSTS)  # type: ignore[arg-type]


def frames(*contents: object) -> io.BytesIO:
    stream = io.BytesIO()
    for content in contents:
        write_frame(stream, content)
    stream.seek(0)
    return stream


def answers(*contents: object) -> list[dict[str, object]]:
    out = io.StringIO()
    follow(frames(*contents), out)
    return [json.loads(line) for line in out.getvalue().splitlines()]


@each_method
def test_the_worker_answers_with_each_tuning(following: Callable[[], Following]) -> None:
    requests = conversations(60)
    tuner = OnlineTuner(following())
    for request in requests:
        tuner.observe(*request)
    given = answers(following(), *requests)
    assert [(a["request"], a["alpha"]) for a in given] == [
        (tuning.request, tuning.alpha) for tuning in tuner.history
    ]
    assert given[0]["scores"] == {str(a): s for a, s in tuner.history[0].scores.items()}


@each_method
def test_after_a_flush_it_is_as_at_the_start(following: Callable[[], Following]) -> None:
    requests = conversations(60)
    before = answers(following(), *requests)
    both = answers(following(), *requests, None, *requests)
    assert {answer["flushes"] for answer in before} == {0}
    assert both == [*before, *({**answer, "flushes": 1} for answer in before)]


@each_method
def test_a_request_that_fits_no_pool_is_left_out(following: Callable[[], Following]) -> None:
    requests = conversations(60)
    assert answers(following(), ([1] * 3_000, [1]), *requests) == answers(following(), *requests)


def test_a_frame_cut_short_is_the_end() -> None:
    whole = frames(conversations(1)).getvalue()
    for length in (0, 3, len(whole) - 1):
        with pytest.raises(EOFError):
            read_frame(io.BytesIO(whole[:length]))


def test_the_process_ends_with_its_input() -> None:
    requests = conversations(60)
    sent = frames(leader(), *requests).getvalue()
    command = [sys.executable, "-m", "marconi_core.sim.server.worker"]
    done = subprocess.run(command, input=sent, capture_output=True, timeout=120, check=True)
    assert [json.loads(line) for line in done.stdout.splitlines()] == answers(leader(), *requests)


def test_the_process_starts_light() -> None:
    code = "import sys, marconi_core.sim.server.worker; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"pandas", "pyarrow", "matplotlib", "torch"} & set(done.stdout.split())
