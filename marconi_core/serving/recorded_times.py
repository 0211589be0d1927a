"""How long prompts and batches take, by the times to first token that ship with the repository."""

import pandas as pd

from marconi_core.assets import resource
from marconi_core.errors import DataError
from marconi_core.models import load_hybrid_model
from marconi_core.models.latency import BatchTimes, PrefillLatency
from marconi_core.serving.recordings import (
    REFERENCE_MODEL,
    Recording,
    read_recordings,
    recorded_files,
)

REFERENCE_GPU = "NVIDIA H100 80GB HBM3"
"""The GPU whose times stand for a server's where there is none: times of all of SGLang's own ways of
caching were recorded on it."""


def prefill_medians(recording: Recording) -> pd.DataFrame:
    """Return times to first token on an idle server of a ``ttft`` recording, one row per kind of prompt."""
    rows = _measured(recording)
    rows = rows[rows["others"] == 0]
    groups = rows.groupby(["prompt_tokens", "prefix_tokens", "cached_tokens"])
    times = groups["ttft_ms"].agg(requests="size", median_ms="median", low_ms="min", high_ms="max")
    return times.reset_index()


def _measured(recording: Recording) -> pd.DataFrame:
    """Return the rows of a ``ttft`` recording, warm-up left out."""
    rows = recording.rows()
    if "others" not in rows:  # before busy servers were measured too
        rows["others"] = 0
    return rows[rows["round"] >= 0]


def prefill_fit(cells: pd.DataFrame) -> PrefillLatency:
    """Return the fit to rows of `prefill_medians`."""
    return PrefillLatency.fit(cells["prompt_tokens"], cells["cached_tokens"], cells["median_ms"])


class NoTimesError(DataError):
    """No times to first token were recorded."""


def latest_ttft(
    *variants: str, model: str = REFERENCE_MODEL, where: str = REFERENCE_GPU, gpus: int = 1
) -> Recording:
    """Return the latest complete times to first token that ship with the repository, with usual settings.

    Args:
        variants: the first of them that was recorded is taken.
        model: of which; its layers count, not its name (see `load_hybrid_model`).
        where: on which kind of GPU; or on which occasion, as hosts differ where GPUs are the same.
        gpus: on how many.

    Raises:
        NoTimesError: there are none.
        ModelError: no such model.
    """
    layers = load_hybrid_model(model).layers
    recordings = [
        recording
        for recording in read_recordings(recorded_files("ttft"))
        if recording.path.stem in variants and recording.tensor_parallel == gpus
        and recording.layers == layers and recording.plain and recording.complete
    ]  # fmt: skip
    on_gpu = [recording for recording in recordings if where in (recording.gpu, recording.occasion)]
    for variant in variants:
        if found := [recording for recording in on_gpu if recording.path.stem == variant]:
            return found[-1]
    others = (
        ", ".join(dict.fromkeys(f"{r.gpu} ({r.occasion})" for r in recordings)) or "no GPU at all"
    )
    wanted = " or ".join(f"'{variant}'" for variant in variants)
    raise NoTimesError(
        f"{resource('recorded')}: has no complete times to first token of '{model}', {wanted}, on "
        f"{gpus} '{where}', only on {others}; record them with `python -m marconi_core.serving ttft "
        f"--variant {variants[0]}`"
    )


def batch_times(recording: Recording) -> BatchTimes:
    """Return how long batches take, by recorded times to first token; see `latest_ttft`.

    Raises:
        DataError: there are none of decoding.
    """
    rows = _measured(recording)
    decoding = rows[rows["purpose"] == "decode"]
    others = decoding["others"]
    if not (others == 0).any():
        raise DataError(
            f"{recording.path}: has no times of decoding, only to first token; record them with "
            f"`python -m marconi_core.serving ttft --variant {recording.variant}`"
        )
    ms = (decoding["total_ms"] - decoding["ttft_ms"]) / (decoding["output_tokens"] - 1)
    return BatchTimes.fit(prefill_fit(prefill_medians(recording)), others, ms)
