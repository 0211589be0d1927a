"""What is computed from the cache and cold, on a server whose model is a rolling hash."""

import itertools
import random
import threading
from pathlib import Path

import pytest

from marconi_core.serving.__main__ import main
from marconi_core.serving.client import Client, Reply
from marconi_core.serving.errors import ServingError
from marconi_core.serving.outputs import Plan, Row, compare, distance, table, wrong

PLAN = Plan(
    families=4, prefix_tokens=(20, 40), first_tokens=5, output_tokens=3, fingerprint=16,
    other_tokens=2, control_every=2, in_flight=(1, 3),
)  # fmt: skip


class HashingClient(Client):
    """Hits the longest prefix that an earlier prompt had; `wrong_from` serves a wrong state there.

    Args:
        wrong_from: number of the hit from which states are those of other prompts; None for never.
    """

    def __init__(self, wrong_from: int | None = None) -> None:
        super().__init__(1)
        self._wrong_from, self._hits = wrong_from, itertools.count()
        self._seen: list[list[int]] = []
        self._lock = threading.Lock()

    def flush(self) -> None:
        self._seen = []

    def generate(self, input_ids, output_tokens=1, **options):  # type: ignore[no-untyped-def]
        with self._lock:
            cached = max((_common(input_ids, seen) for seen in self._seen), default=0)
            history = [*input_ids]
            if cached and self._wrong_from is not None and next(self._hits) >= self._wrong_from:
                history[cached - 1] += 1
            dice = random.Random(str(history))
            logprobs = tuple(dice.gauss(-10, 1) for _ in options["token_ids_logprob"])
            output = tuple(dice.choices(range(1000), k=output_tokens))
            self._seen.append([*input_ids, *output[:-1]])
        return Reply(0.1, 0.2, len(input_ids), cached, output, output_tokens, logprobs)


def _common(one: list[int], other: list[int]) -> int:
    pairs = enumerate(zip(one[:-1], other, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(one) - 1, len(other)))


def test_right_states_give_the_cold_reply_and_controls_do_not() -> None:
    rows = list(compare(HashingClient(), PLAN))
    assert len(rows) == PLAN.requests == 36
    for row in rows:
        if row.served == "other":
            assert row.distance > 0.5 and row.cached_tokens == 0
        else:
            assert row.distance == 0 and row.equal_tokens == 3
    hits = [row for row in rows if row.served == "hit"]
    assert {row.in_flight for row in hits} == {1, 3}
    assert all(row.prompt_tokens - row.cached_tokens <= PLAN.fresh_tokens + 1 for row in hits)
    assert wrong(rows) == 0


def test_one_wrong_state_is_found() -> None:
    hits = PLAN.families * 4 * len(PLAN.in_flight)  # the second request of a family hits as well
    rows = list(compare(HashingClient(wrong_from=hits - 1), PLAN))
    assert wrong(rows) == 1


def test_a_simulated_server_has_nothing_to_compare(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        "outputs",
        "--variant",
        "marconi",
        "--model",
        "nemotron_h_8b",
        "--output",
        str(tmp_path),
    ]
    assert main([*words, "--set", "server=simulated"]) == 2
    assert capsys.readouterr().err == (
        "marconi: outputs: a simulated server computes none; leave out server=simulated\n"
    )


def test_prompts_are_the_same_whatever_the_order() -> None:
    first, second = (list(compare(HashingClient(), PLAN)) for _ in range(2))
    assert first == second


def test_distance_has_a_scale() -> None:
    assert distance([1.0, 2.0, 4.0], [1.0, 2.0, 4.0]) == 0
    assert distance([6.0, 7.0, 9.0], [1.0, 2.0, 4.0]) == pytest.approx(0)
    assert distance([4.0, 2.0], [2.0, 4.0]) == pytest.approx(2)


def test_the_table_counts_what_is_equal() -> None:
    rows = [
        Row(0, "turn", "hit", 8, 90, 80, 0.25, 3, 3),
        Row(1, "turn", "hit", 8, 90, 0, 0.75, 2, 3),
    ]
    assert "| hit | 8 | turn | 2 | 1 | 0.5000 | 0.7500 | 1 |" in table(rows)


def test_a_failed_request_ends_the_comparison() -> None:
    class Failing(HashingClient):
        def generate(self, input_ids, output_tokens=1, **options):  # type: ignore[no-untyped-def]
            raise ServingError("gone")

    with pytest.raises(ServingError, match="gone"):
        list(compare(Failing(), PLAN))


def test_a_model_that_forgets_cannot_be_judged() -> None:
    rows = [Row(0, "turn", served, 1, 9, 0, apart, 3, 3) for served, apart in
            (("again", 0.01), ("other", 0.02), ("hit", 0.01))]  # fmt: skip
    with pytest.raises(ServingError, match="wrong states would not be seen"):
        wrong(rows)
