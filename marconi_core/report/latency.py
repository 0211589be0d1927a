"""Time to first token as a function of prompt and cached tokens: the paper's, and one measured here.

The authors measured Jamba-1.5-Mini on four GPUs at prompt lengths 50, 100, ..., 31,950 tokens and
used the least-squares line through these points (Figure 9). A prefix hit is charged the time of a
fresh prompt of the remaining length, so attention to the cached prefix is free. In our measurement
of a live server it is not (`models.latency`).
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from marconi_core.serving.recorded_times import latest_ttft, prefill_fit, prefill_medians

GRID_STEP = 50  # tokens
GRID_LAST = 31_950  # tokens
# The line's unit is 10 ms (ruipeterpan/marconi, data/ttft_AI21-Jamba-1.5-Mini.pickle, 639 points).
LINE_SLOPE = 0.0052964387241837
LINE_INTERCEPT = 1.78135768522
MS_PER_LINE_UNIT = 10


def ttft_ms(tokens: ArrayLike) -> NDArray[np.float64]:
    """Return the time to first token, in milliseconds, of prompts of these lengths.

    The paper's map: the line's value at the first grid point above the length, so steps of
    2.648 ms; lengths of 31,950 and more get the last point's value, 1710.03 ms.

    Args:
        tokens: prompt lengths to be computed (prompt minus cached prefix), any shape, >= 0.
    """
    lengths = np.asarray(tokens)
    grid_point = np.minimum((lengths // GRID_STEP + 1) * GRID_STEP, GRID_LAST)
    return MS_PER_LINE_UNIT * (LINE_SLOPE * grid_point + LINE_INTERCEPT)


class Latency(NamedTuple):
    """Where times to first token come from.

    Attributes:
        label: model and machine, in two lines.
        ms: milliseconds for any shape of prompt tokens, and of cached tokens among them.
    """

    label: str
    ms: Callable[[ArrayLike, ArrayLike], NDArray[np.float64]]


PUBLISHED = Latency(
    "Jamba-1.5-Mini on four GPUs\n(the paper's line)",
    lambda prompt, cached: ttft_ms(np.asarray(prompt) - np.asarray(cached)),
)


def measured() -> Latency:
    """Return recorded times of SGLang's default for hybrid models on an H100, one request at a time."""
    recording = latest_ttft("extra_buffer")
    fit = prefill_fit(prefill_medians(recording))
    return Latency(f"{recording.model} on\n{recording.server}", fit.ms)
