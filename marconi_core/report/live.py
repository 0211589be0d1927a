"""What live servers did: replays, parity, checklists, and what they say about the paper's claims."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import pandas as pd

from marconi_core.models.latency import PrefillLatency
from marconi_core.replay.rows import ReplayRow, read_rows
from marconi_core.replay.summary import ReplaySummary, summarize
from marconi_core.report.claims import printed_values
from marconi_core.report.page import Section
from marconi_core.report.predicted import KEYS
from marconi_core.report.roles import PAPER_DATASETS, Role, role_of
from marconi_core.serving.recordings import HERE, SIMULATED, Recording, by_order, read_description
from marconi_core.serving.spec import STRATEGIES, VARIANTS

# replays in the same place can be compared
PLACE = ["occasion", "server", "load", "trace", "requests", "states", "kv_tokens"]
MEASURED = [
    "token_hit_rate", "ttft_p5_ms", "ttft_p50_ms", "ttft_p95_ms", "ttft_p99_ms",
    "input_tokens_per_s", "output_tokens_per_s", "mean_in_flight", "jitter_p95_ms",
]  # fmt: skip
NO_CACHE = "no_cache"
# the paper's SGLang+: Marconi's admission, evicting the least recently used
SGLANG_PLUS = ("admission_only", "admission_only_no_buffer")
HELD, PARTLY, NOT, NO_VERDICT = "reproduced", "partly reproduced", "not reproduced", "no verdict"


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
    kind = replay.kind._asdict()
    where = {name: kind[name] for name in (*PLACE, "variant")}
    return {**where, "date": replay.date, "replay": replay.path.stem}


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

    `requests` are those of one repeat. `dataset` and `data` are name and label of the data set that the
    trace is of; the trace's name where `roles` has none.

    Args:
        replays: those that are not complete are left out.
        predictions: what `predicted.read_predictions` returns.
        roles: data sets that traces may be of.
    """
    summaries = pd.DataFrame(
        [_where(r) | summarize(read_rows(r.path))._asdict() for r in replays if r.complete],
        columns=list(dict.fromkeys([*PLACE, "variant", "date", "replay", *ReplaySummary._fields])),
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
    of_traces = [(trace, role_of(trace, roles)) for trace in merged["trace"]]
    merged.insert(0, "dataset", [role.dataset if role else trace for trace, role in of_traces])
    merged.insert(1, "data", [role.label if role else trace for trace, role in of_traces])
    return merged.drop(columns="order")


def reductions(replays: pd.DataFrame, baselines: Sequence[str]) -> pd.DataFrame:
    """Return by how much Marconi lowers the P95 TTFT of some baselines.

    Marconi is the best of its variants, tuned or at a fixed alpha, that have overlap scheduling as the
    baseline has, or have it not as the baseline has it not. `points` are percent of the P95 without a cache, as the
    paper counts; `percent` is relative to the baseline.

    Returns:
        One row per place and baseline that Marconi can be compared with.
    """
    found = []
    for place, group in replays.groupby(PLACE, sort=False):
        p95 = group.set_index("variant")["ttft_p95_ms"]
        for baseline in p95.index.intersection(list(baselines), sort=False):
            ours = p95[[_is_marconi_beside(variant, baseline) for variant in p95.index]]
            if ours.empty:
                continue
            saved = p95[baseline] - ours.min()
            found.append(
                dict(zip(PLACE, place, strict=True))
                | {"data": group["data"].iloc[0]}
                | {"marconi": ours.idxmin(), "baseline": baseline}
                | {"ms": saved, "percent": 100 * saved / p95[baseline]}
                | {"points": 100 * saved / p95.get(NO_CACHE, float("nan"))}
            )
    columns = [*PLACE, "data", "marconi", "baseline", "ms", "percent", "points"]
    return pd.DataFrame(found, columns=columns)


def _is_marconi_beside(variant: str, baseline: str) -> bool:
    return is_marconi(variant) and overlaps(variant) == overlaps(baseline)


def is_marconi(variant: str) -> bool:
    """Return whether a variant (``NAME`` or ``NAME@ALPHA``) is Marconi, tuned or at a fixed alpha."""
    return variant.startswith("marconi")


def overlaps(variant: str) -> bool:
    """Return whether a variant prepares a batch while another runs; without a cache SGLang does."""
    return VARIANTS[variant.partition("@")[0]].strategy != "no_buffer"


def claims(replays: pd.DataFrame) -> pd.DataFrame:
    """Return the paper's claims about time to first token beside what was measured.

    A claim is reproduced if the largest reduction is at least the paper's, partly if there is one at
    all. There is no verdict on simulated servers, on data other than the paper's own (stand-ins
    included), and where no server without a cache was measured, as the paper's percent are of its P95.
    """
    vllm = max(printed_values("ttft_points_under_vllm_plus").values(), key=float)
    sglang = max(printed_values("ttft_points_under_sglang_plus").values(), key=float)
    rows = [
        {
            "claim": "P95 TTFT lower than vLLM+, up to",
            "paper": f"{vllm} %",
            "here": "not measured: no server checkpoints every block of 32 tokens",
            "verdict": NO_VERDICT,
        }
    ]
    stock = "P95 TTFT lower than stock SGLang, both with `{}`, up to (not in the paper)"
    for text, paper, baselines in (
        ("P95 TTFT lower than SGLang+ (admission only), up to", sglang, SGLANG_PLUS),
        *((stock.format(strategy), "", (strategy,)) for strategy in STRATEGIES),
    ):
        for (server, of_the_paper), group in replays.groupby(["server", _of_the_papers(replays)]):
            found = reductions(group, baselines)
            if not found.empty:
                judged = paper and of_the_paper and server != SIMULATED
                rows.append(_claim(text, paper, str(server), found, judged=bool(judged)))
    return pd.DataFrame(rows)


def recorded_as(occasion: str) -> str:
    """Return which recording it is, to be put behind a server's name; nothing for this machine's."""
    return "" if occasion == HERE else f" ({occasion})"


def _of_the_papers(replays: pd.DataFrame) -> pd.Series:
    """Return bool[n]: whether a row is of a data set of the paper, and not of a stand-in for it."""
    return replays["data"].isin(PAPER_DATASETS.values())


def _claim(
    text: str, paper: str, server: str, found: pd.DataFrame, *, judged: bool
) -> dict[str, str]:
    column, unit = "points", "% of no cache"
    comparable = found.dropna(subset="points")
    if comparable.empty:  # percent of the baseline are no percent of no cache
        column, unit, comparable, judged = "percent", "% of the baseline", found, False
    ordered = comparable.sort_values(column)
    worst, best = ordered.iloc[0], ordered.iloc[-1]
    least = f"; least {worst[column]:.1f} ({_place(worst)})" if len(ordered) > 1 else ""
    verdict = HELD if best[column] >= float(paper or 0) else PARTLY if best[column] > 0 else NOT
    return {
        "claim": text,
        "paper": f"{paper} %" if paper else "",
        "here": f"{best[column]:.1f} {unit} ({best['percent']:.1f} % of {best['baseline']}, "
        f"{best['ms']:.0f} ms; {_place(best)}){least}; {server}",
        "verdict": verdict if judged else NO_VERDICT,
    }


def _place(row: pd.Series) -> str:
    """Return where a reduction was seen, with what has to be said of the data."""
    name = row["trace"] if row["data"] == row["trace"] else f"{row['trace']}, data: {row['data']}"
    return f"{name}; {row['states']} states; {row['load']}{recorded_as(row['occasion'])}"


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
    parity_runs: pd.DataFrame,
    fits: pd.DataFrame,
    checks: pd.DataFrame,
    left_out: Sequence[str],
) -> Iterator[Section]:
    """Yield the sections of the page about live servers.

    Args:
        origin: where the measurements come from, for the reader.
        replays: what `table` returns.
        fits: what `plots.ttft.table` returns.
        left_out: replays that ended early.
    """
    yield Section("Live servers", origin)
    yield Section("The paper's claims, live", table=claims(replays) if len(replays) else None,
                  text="" if len(replays) else "No replay has been recorded yet.")  # fmt: skip
    for (occasion, server, load), group in replays.groupby(
        ["occasion", "server", "load"], sort=False
    ):
        yield Section(
            f"Replays on {server}{recorded_as(str(occasion))}",
            f"Load: {load}. Medians over repeats. Predicted: by the server simulator under this load.",
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
