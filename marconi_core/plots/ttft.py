"""Time to first token against prompt length, with nothing, half, and nine tenths of it cached."""

from collections.abc import Iterable
from dataclasses import asdict, fields

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from marconi_core.errors import DataError
from marconi_core.models.latency import PrefillLatency
from marconi_core.plots.panels import grid
from marconi_core.plots.style import paper_style
from marconi_core.serving.recorded_times import prefill_fit, prefill_medians
from marconi_core.serving.recordings import HERE, Recording, by_order

# by the part of the prompt that was sent before: colour, marker, name
SHARES = {
    0.0: ("#999999", "o", "nothing"),
    0.5: ("#E69F00", "s", "half"),
    0.9: ("#0072B2", "^", "90 %"),
}


def table(recordings: Iterable[Recording]) -> pd.DataFrame:
    """Return one row per variant, prompt length and cached tokens: times in milliseconds, warm-up left out.

    `fitted_ms` and the coefficients are those of `PrefillLatency`, fitted to the medians of the variant.
    Of several recordings of a variant on one occasion, oldest first, the last counts; those that are not
    complete do not.

    Raises:
        DataError: none is complete.
    """
    latest = {(r.occasion, r.server, r.variant): r for r in recordings if r.complete}
    tables = []
    for recording in latest.values():
        cells = prefill_medians(recording)
        fit = prefill_fit(cells)
        cells.insert(0, "variant", recording.variant)
        cells["fitted_ms"] = fit.ms(cells["prompt_tokens"], cells["cached_tokens"])
        cells = cells.assign(**asdict(fit))
        cells["occasion"] = recording.occasion
        cells["server"] = recording.server
        cells["date"] = recording.date
        tables.append(cells)
    if not tables:
        raise DataError(
            "no complete times to first token: measure them with `python -m marconi_core.serving ttft`"
        )
    return pd.concat(tables, ignore_index=True).round(4)


def draw(rows: pd.DataFrame) -> Figure:
    """Draw one panel per server, occasion and variant from the rows of `table`: medians, range, and fit."""
    keys = ["server", "occasion", "variant"]
    order = rows[keys].drop_duplicates()
    order = order.assign(order=order["variant"].map(by_order)).sort_values([*keys[:2], "order"])
    with paper_style():
        figure, cells = grid(len(order), (2.1, 3.0), in_a_row=3, sharey=True)
        panels = [axes for (axes,) in cells]
        for axes, (server, occasion, variant) in zip(
            panels, order[keys].itertuples(index=False), strict=True
        ):
            _panel(axes, rows[(rows[keys] == [server, occasion, variant]).all(axis=1)])
            place = [] if occasion == HERE else [occasion]
            axes.set_title("\n".join([variant, server.partition(", ")[0], *place]))
            axes.set_xlabel("prompt (1,024 tokens)")
        figure.supylabel("time to first token (ms)")
        most = max(panels, key=lambda axes: len(axes.get_legend_handles_labels()[1]))
        handles, labels = most.get_legend_handles_labels()
        labels = [f"{label} cached" for label in labels]
        figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
        kinds = (server.partition(", ")[2] for server in rows["server"])
        figure.suptitle(", ".join(kind for kind in dict.fromkeys(kinds) if kind))
    return figure


def _panel(axes: Axes, rows: pd.DataFrame) -> None:
    fit = PrefillLatency(*rows[[field.name for field in fields(PrefillLatency)]].iloc[0].tolist())
    share = rows["prefix_tokens"] / rows["prompt_tokens"]
    lengths = np.linspace(rows["prompt_tokens"].min(), rows["prompt_tokens"].max(), 64)
    for cached, (color, marker, name) in SHARES.items():
        cells = rows[np.isclose(share, cached, atol=0.01)]
        if cells.empty:
            continue
        spread = [cells["median_ms"] - cells["low_ms"], cells["high_ms"] - cells["median_ms"]]
        axes.errorbar(
            cells["prompt_tokens"] / 1024, cells["median_ms"], yerr=np.array(spread), label=name,
            linestyle="", marker=marker, markersize=3.5, color=color, elinewidth=0.8,
        )  # fmt: skip
        axes.plot(lengths / 1024, fit.ms(lengths, cached * lengths), color=color, linewidth=1)
    axes.set_yscale("log")
    axes.set_xscale("log", base=2)
    axes.set_xticks([1, 2, 4, 8, 16, 32], labels=["1", "2", "4", "8", "16", "32"])
