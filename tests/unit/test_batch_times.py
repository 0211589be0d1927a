"""What a `ttft` recording says of a busy server, from a server whose times are known."""

from dataclasses import astuple
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from marconi_core.models.latency import BatchTimes, PrefillLatency
from marconi_core.serving.recorded_times import batch_times
from marconi_core.serving.recordings import Recording, read_recordings, recorded_files
from marconi_core.serving.ttft import Row
from marconi_core.sim.server import PoolSizes, ServerSimulator
from marconi_core.sim.server.batching import BatchingServer
from marconi_core.sim.server.overlap import OverlapServerSimulator
from marconi_core.sim.server.timing import TimedServer

SIZES = PoolSizes(kv_tokens=1_000_000, states=500)
KNOWN = BatchTimes(PrefillLatency(20, 30, 0.5), 5.0, 0.25)
REQUESTS = 40  # of each kind


BUSY = [r for r in read_recordings(recorded_files("ttft")) if "others" in r.rows()]


def served(
    simulator: ServerSimulator, others: int, prompt: int, output: int, times: BatchTimes = KNOWN
) -> list[Row]:
    """Return requests that came at any moment of the others' steps, as `ttft` records them."""
    tokens = np.random.default_rng(1)
    clock = TimedServer(BatchingServer(simulator, 64), times)
    beside = [
        clock.server.submit(i, tokens.integers(1000, size=64), [1] * 4000) for i in range(others)
    ]
    while any(not request.seen for request in beside):
        clock.step()
    rows = []
    for _ in range(REQUESTS):
        sent = clock.now + tokens.uniform(0, 0.05)
        clock.now = max(clock.now, sent) if not others else clock.now
        while clock.now < sent:
            clock.step()
        request = clock.server.submit("", tokens.integers(1000, size=prompt), [1] * output)
        first = 0.0
        while not request.finished:
            clock.step()
            first = first or (clock.now if request.seen else 0.0)
        purpose = "decode" if output > 1 else "cold"
        ms = round(1e3 * (first - sent), 3), round(1e3 * (clock.now - sent), 3)
        rows.append(Row("x", 0, purpose, prompt, 0, 0, output, *ms, clock.now, others))
    return rows


@pytest.mark.parametrize("simulator", [ServerSimulator, OverlapServerSimulator])
def test_times_beside_others_are_found_again(
    simulator: type[ServerSimulator], tmp_path: Path
) -> None:
    cells = [(0, length, 1) for length in (500, 2000, 8000)] + [(0, 500, 30)]
    cells += [
        (others, length, output)
        for others in (3, 7, 15)
        for length, output in ((1000, 1), (1000, 30))
    ]
    rows = [row for cell in cells for row in served(simulator(SIZES), *cell)]
    pd.DataFrame(rows).to_csv(tmp_path / "x.csv", index=False)
    (tmp_path / "x.json").write_text("{}")
    (recording,) = read_recordings([tmp_path / "x.csv"])
    found = batch_times(recording)
    assert astuple(found.prefill)[:3] == pytest.approx(astuple(KNOWN.prefill)[:3], rel=0.02)
    assert astuple(found)[1:] == pytest.approx(astuple(KNOWN)[1:], rel=0.1)


@pytest.mark.parametrize("recording", BUSY, ids=lambda recording: recording.variant)
def test_a_prompt_beside_others_waits_for_their_steps_and_for_little_else(
    recording: Recording,
) -> None:
    """On average up to 5 ms longer by the clock, where a CPU launches kernels while a step runs."""
    rows = recording.rows()
    cold = rows[(rows["round"] >= 0) & (rows["purpose"] == "cold")]
    ttft = cold.groupby(["others", "prompt_tokens"])["ttft_ms"].median()
    without = recording.description["settings"]["disable_overlap_schedule"]
    simulator = ServerSimulator if without else OverlapServerSimulator
    times = batch_times(recording)
    too_long = []
    for others, prompt in ttft[ttft.index.get_level_values("others") > 0].index:
        clock = [row.ttft_ms for row in served(simulator(SIZES), others, prompt, 1, times)]
        more = np.median(clock) - times.prefill.ms(prompt, 0)
        too_long.append(more - (ttft[others, prompt] - ttft[0, prompt]))
    assert len(too_long) == 6 and 0 < np.mean(too_long) < 5
