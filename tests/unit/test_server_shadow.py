"""The simulator beside a server, compared with what the server did."""

import io
import json

import pytest

from marconi_core.models.paper import Geometry, PaperModel
from marconi_core.policies.two_pool import EvictionSettings
from marconi_core.sim.server import PoolSizes, ServerSimulator, marconi
from marconi_core.sim.server.tuning import Following, OnlineTuner
from marconi_core.sim.server.worker import follow, write_frame
from tests.unit.random_serving import conversations

COSTS = PaperModel(Geometry(3, 1, 0, d=32, n=8))
SIZES = PoolSizes(2_000, 8)
Report = tuple[list[int], list[int], int, float]


def reports(count: int, delay: int) -> list[Report]:
    """What a server reports that takes each new alpha some requests late."""
    tuner = OnlineTuner(Following(SIZES, marconi(), COSTS))
    server = ServerSimulator(SIZES, marconi(), COSTS)
    told: list[Report] = []
    alphas = [0.0] * (delay + 1)
    for prompt, output in conversations(count):
        alpha = alphas[-delay - 1]
        server.configure(EvictionSettings(alpha=alpha))
        told.append((prompt, output, server.serve(prompt, output).hit, alpha))
        tuner.observe(prompt, output, alpha)
        alphas.append(tuner.alpha)
    return told


def shadows(*contents: object) -> list[dict[str, int]]:
    """What the process says of its simulator."""
    stream, out = io.BytesIO(), io.StringIO()
    for content in (Following(SIZES, marconi(), COSTS), *contents):
        write_frame(stream, content)
    stream.seek(0)
    follow(stream, out)
    answers = map(json.loads, out.getvalue().splitlines())
    return [answer["shadow"] for answer in answers if "shadow" in answer]


@pytest.mark.parametrize("delay", [0, 3])
def test_each_hit_is_predicted_however_late_alpha_is_taken(delay: int) -> None:
    told = reports(150, delay)
    assert len({alpha for *_, alpha in told}) > 1
    assert shadows(*told)[-1] == {
        "requests": 150,
        "input_tokens": sum(len(prompt) for prompt, *_ in told),
        "mismatches": 0,
        "hit_tokens": sum(hit for _, _, hit, _ in told),
    }


def test_another_alpha_than_the_server_has_goes_wrong() -> None:
    told = [(prompt, output, hit, 2.0 - alpha) for prompt, output, hit, alpha in reports(150, 3)]
    assert shadows(*told)[-1]["mismatches"] > 0


def test_a_wrong_hit_is_counted() -> None:
    told = reports(40, 0)
    prompt, output, hit, alpha = told[30]
    told[30] = (prompt, output, hit + 1, alpha)
    found = shadows(*told)
    assert [shadow["mismatches"] for shadow in found] == [0] * 30 + [1] * 10


def test_a_request_that_fits_no_pool_is_a_mismatch() -> None:
    assert shadows(([1] * 3_000, [1], 0, 0.0), ([1, 2], [3], 0, 0.0))[-1] == {
        "requests": 2,
        "input_tokens": 3_002,
        "mismatches": 1,
        "hit_tokens": 0,
    }


def test_counts_go_on_after_a_flush() -> None:
    told = reports(20, 0)
    found = shadows(*told, None, *told)
    assert found[-1]["requests"] == 40 and found[-1]["mismatches"] == 0


def test_a_server_that_tells_no_hits_is_not_compared() -> None:
    assert shadows(*conversations(20)) == []
