"""The pruned search for the lowest score against scoring everything, on random histories."""

from hypothesis import given, settings
from hypothesis import strategies as st

from marconi_core.policies.candidates import GROUP, add, change, empty_candidates, remove, search
from tests.naive import normalised

entries = st.tuples(st.sampled_from([-1.5, 0.0, 0.25, 3.0, 1e9]), st.integers(0, 50))
steps = st.lists(
    st.tuples(st.sampled_from(["add", "add", "change", "remove"]), entries, st.integers(0, 10**6)),
    min_size=1,
    max_size=6 * GROUP,
)


@settings(max_examples=60, deadline=None)
@given(steps, st.sampled_from([0.0, 0.1, 1.0, 2.0]))
def test_search_finds_all_lowest_scores(
    steps: list[tuple[str, tuple[float, int], int]], alpha: float
) -> None:
    candidates = empty_candidates(len(steps))
    expected: list[tuple[int, float, int]] = []  # node, efficiency, timestamp by place
    for number, (step, (efficiency, timestamp), choice) in enumerate(steps):
        if step == "add" or not expected:
            assert add(candidates, number, efficiency, timestamp) == len(expected)
            expected.append((number, efficiency, timestamp))
            continue
        place = choice % len(expected)
        if step == "change":
            change(candidates, place, efficiency, timestamp)
            expected[place] = (expected[place][0], efficiency, timestamp)
        else:
            last = expected.pop()
            assert remove(candidates, place) == last[0]
            if place < len(expected):
                expected[place] = last
        if not expected:
            continue
        clock = 51 + number
        worth = normalised([e for _, e, _ in expected])
        recency = normalised([1 / (clock - t) for _, _, t in expected])
        scores = [alpha * e + r for e, r in zip(worth, recency, strict=True)]
        ties = search(candidates, clock, alpha)
        lowest = {
            node for (node, _, _), s in zip(expected, scores, strict=True) if s == min(scores)
        }
        assert set(candidates.tied[:ties].tolist()) == lowest and ties == len(lowest)
