"""What live servers did: replays, parity and checklists, as tables and a page."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import pandas as pd

from marconi_core.models.latency import PrefillLatency
from marconi_core.replay.rows import ReplayRow, read_rows
from marconi_core.replay.summary import ReplaySummary, summarize
from marconi_core.report.live_claims import claims
from marconi_core.report.page import Section
from marconi_core.report.predicted import KEYS
from marconi_core.report.roles import RECORDED, Role, role_of
from marconi_core.serving.recordings import (
    HERE,
    PLACE,
    Recording,
    by_order,
    read_description,
    recorded_as,
)

MEASURED = [
    "token_hit_rate", "ttft_p5_ms", "ttft_p50_ms", "ttft_p95_ms", "ttft_p99_ms",
    "input_tokens_per_s", "output_tokens_per_s", "mean_in_flight", "jitter_p95_ms", "host_ms",
]  # fmt: skip


def requests(replays: Iterable[Recording]) -> pd.DataFrame:
    """Return the raw rows of all complete replays, each with its server and trace."""
    frames = []
    for replay in replays:
        if replay.complete:
            rows = replay.rows()
            for column, value in _where(replay).items():
                rows[column] = value
            frames.append(rows)
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=_ROWS)


def _where(replay: Recording) -> dict[str, Any]:
    """Return what is not in a replay's rows."""
    return {**replay.kind._asdict(), "date": replay.date, "replay": replay.path.stem}


_ROWS = [*PLACE, "variant", "date", "replay", *ReplayRow._fields]


def left_out(folders: Iterable[Path]) -> list[str]:
    """Return a line for each replay below some folders that ended early: its name, and why if known.

    Raises:
        DataError: a JSON file in there is damaged.
    """
    lines = []
    for path in sorted(path for folder in folders for path in folder.rglob("*.json")):
        found, rows = read_description(path), path.with_suffix(".csv")
        done, planned = found.get("requests", 0), found.get("requests_planned", 0)
        reason = found.get("ended_by", "no reason was recorded")  # a kill leaves no time to do so
        if 0 < planned <= done:
            done = len(Recording(rows, found).rows()) if rows.is_file() else 0
            reason = f"{rows.name} lacks the others"
        if done < planned:
            lines.append(f"{path.stem}: {done} of {planned} requests; {reason}")
    return lines


def table(
    replays: Iterable[Recording], predictions: pd.DataFrame, roles: Sequence[Role] = ()
) -> pd.DataFrame:
    """Return one row per place and variant: medians over repeats, and the predictions.

    `requests` are those of one repeat. `host_ms` is the host's pace (see `serving.hostpace`), NaN where it was
    not recorded. `dataset` and `data` are name and label of the data set that the trace is of; the trace's
    name where `roles` has none.

    Args:
        replays: those that are not complete are left out.
        predictions: what `predicted.read_predictions` returns.
        roles: data sets that traces may be of; of recordings that ship with the repository, `RECORDED`.
    """
    summaries = pd.DataFrame(
        [
            _where(r) | summarize(read_rows(r.path))._asdict() | {"host_ms": r.host_ms}
            for r in replays
            if r.complete
        ],
        columns=list(
            dict.fromkeys([*PLACE, "variant", "date", "replay", *ReplaySummary._fields, "host_ms"])
        ),
    )
    groups = summaries.groupby([*PLACE, "variant"])
    found = groups[MEASURED].median()
    found.insert(0, "date", groups["date"].max())
    found.insert(1, "repeats", groups.size())
    found["ttft_p95_low_ms"] = groups["ttft_p95_ms"].min()
    found["ttft_p95_high_ms"] = groups["ttft_p95_ms"].max()
    renamed = predictions.rename(
        columns={name: f"predicted_{name}" for name in predictions if name not in KEYS}
    )
    merged = found.reset_index().merge(renamed, on=KEYS, how="left")
    order = merged["variant"].map(by_order)
    merged = merged.assign(order=order).sort_values([*PLACE, "order"], ignore_index=True)
    of_traces = [
        (trace, role_of(trace, roles if occasion == HERE else RECORDED))
        for occasion, trace in zip(merged["occasion"], merged["trace"], strict=True)
    ]
    merged.insert(0, "dataset", [role.dataset if role else trace for trace, role in of_traces])
    merged.insert(1, "data", [role.label if role else trace for trace, role in of_traces])
    return merged.drop(columns="order")


def parity(recordings: Iterable[Recording]) -> pd.DataFrame:
    """Return one row per parity run: requests, and those whose cached tokens differ from the prediction.

    Of a run that was cut off, it is not known how many differ, as long as none of its rows does.
    """
    found = []
    for recording in recordings:
        columns = ["prompt_tokens", "predicted_tokens", "cached_tokens"]
        rows = recording.rows().reindex(columns=columns)  # they are absent where there are no rows
        differing = int((rows["predicted_tokens"] != rows["cached_tokens"]).sum())
        seen = f"at least {differing}" if differing else "not known"
        found.append(
            {
                "run": recording.path.stem,
                "server": recording.server,
                "date": recording.date,
                "requests": len(rows),
                "planned": recording.description.get("requests_planned", "not recorded"),
                "prompt tokens": int(rows["prompt_tokens"].sum()),
                "cached tokens": int(rows["cached_tokens"].sum()),
                "differing requests": str(differing) if recording.complete else f"{seen}: cut off",
            }
        )
    return pd.DataFrame(found)


def checklists(paths: Iterable[Path]) -> pd.DataFrame:
    """Return the smoke tests' checks: one row a check, one column a server."""
    columns: dict[str, dict[str, str]] = {}
    marks = {True: "ok", False: "FAILED", None: "not tried"}
    for path in paths:
        content = read_description(path)
        name = path.name.removesuffix(".json").removesuffix(".smoke")
        label = f"{name}: {content['label']} ({str(content['date'])[:10]})"
        columns[label] = {c["name"]: marks[c["passed"]] for c in content["checks"]}
    return pd.DataFrame(columns).fillna("").rename_axis("check").reset_index()


def page(
    origin: str,
    replays: pd.DataFrame,
    rows: pd.DataFrame,
    parity_runs: pd.DataFrame,
    fits: pd.DataFrame,
    checks: pd.DataFrame,
    left_out: Sequence[str],
) -> Iterator[Section]:
    """Yield the sections of the page about live servers.

    Args:
        origin: where the measurements come from, for the reader.
        replays: what `table` returns.
        rows: what `requests` returns.
        fits: what `plots.ttft.table` returns.
        left_out: replays that ended early.
    """
    yield Section("Live servers", origin)
    yield Section(
        "The paper's claims, live",
        "In parentheses: 95 % over draws of the requests (bootstrap). How much a machine differs from moment "
        "to moment is not in it."
        if len(replays)
        else "No replay has been recorded yet.",
        claims(replays, rows) if len(replays) else None,
    )
    for (occasion, server, load), group in replays.groupby(
        ["occasion", "server", "load"], sort=False
    ):
        yield Section(
            f"Replays on {server}{recorded_as(str(occasion))}, {str(load).partition(',')[0]}",
            f"Load: {load}. Medians over repeats. Predicted: by the server simulator under this load. Host: how "
            "long the same small work on a CPU took meanwhile, as short prompts wait for the CPU.",
            _for_people(group),
        )
    if left_out:
        yield Section("Replays that ended early and are left out", items=left_out)
    yield Section("Predicted against served cached tokens", table=parity_runs)
    yield Section(
        "Time to first token, ms",
        "start + per 1,024 computed tokens + per million pairs of a computed token and one before it; at "
        "least what starting all kernels takes",
        _fits_for_people(fits),
    )
    yield Section("Checklists", table=checks)


def _for_people(replays: pd.DataFrame) -> pd.DataFrame:
    def percent(value: float) -> str:
        return "" if pd.isna(value) else f"{100 * value:.1f}"

    def whole(value: float) -> str:
        return "" if pd.isna(value) else f"{value:.0f}"

    shown = {
        "trace": replays["trace"],
        "data": replays["data"],
        "states": replays["states"],
        "KV tokens": replays["kv_tokens"],
        "variant": replays["variant"],
        "requests": replays["requests"],
        "repeats": replays["repeats"],
        "hit rate, %": replays["token_hit_rate"].map(percent),
        "predicted, %": replays["predicted_token_hit_rate"].map(percent),
        "requests that hit as predicted, %": replays["predicted_hit_as_predicted"].map(percent),
        **{f"TTFT P{p}, ms": replays[f"ttft_p{p}_ms"].map(whole) for p in (5, 50, 95, 99)},
        **{f"predicted P{p}, ms": replays[f"predicted_ttft_p{p}_ms"].map(whole) for p in (50, 95)},
        "tokens in/s": replays["input_tokens_per_s"].map(whole),
        "tokens out/s": replays["output_tokens_per_s"].map(whole),
        "jitter P95, ms": replays["jitter_p95_ms"].round(1),
        "host, ms": replays["host_ms"].map(lambda ms: "" if pd.isna(ms) else f"{ms:.2f}"),
    }
    return pd.DataFrame(shown)


def _fits_for_people(fits: pd.DataFrame) -> pd.DataFrame:
    coefficients = [field.name for field in fields(PrefillLatency)]
    error = (fits["fitted_ms"] / fits["median_ms"] - 1).abs()
    grouped = fits.assign(error=100 * error).groupby(["server", "occasion", "variant"], sort=False)
    shown = grouped[coefficients].first().round(3)
    shown["mean error, %"] = grouped["error"].mean().round(1)
    shown["largest error, %"] = grouped["error"].max().round(1)
    return shown.reset_index()
