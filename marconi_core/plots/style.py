"""Colours, names and reproducible saving shared by all figures."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import matplotlib as mpl
import matplotlib.style
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from marconi_core.errors import StorageError
from marconi_core.files import atomic_path
from marconi_core.policies import POLICIES

STYLE = Path(__file__).with_name("marconi.mplstyle")

POLICY_COLORS = {policy.name: policy.color for policy in POLICIES.values()}
POLICY_NAMES = {policy.name: policy.label for policy in POLICIES.values()}
POLICY_LINES = {"vllm_plus": ":", "sglang_plus": "--", "marconi": "-"}
POLICY_MARKERS = {"vllm_plus": "^", "sglang_plus": "s", "oracle": "D", "marconi": "o"}
SERIES_COLORS = ("#0072B2", "#E69F00", "#009E73", "#999999")  # for anything but policies
PAPER_COLOR = "#D55E00"  # whatever is the paper's value, in every figure

BOX_PERCENTILES = [5, 25, 50, 75, 95]

# Dates are the only thing that would change from run to run.
METADATA: Mapping[str, dict[str, None]] = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}


@contextmanager
def paper_style() -> Iterator[None]:
    """Draw with the project's style, whatever the user's own settings are."""
    with mpl.rc_context():
        mpl.rcdefaults()
        matplotlib.style.use(STYLE)
        yield


def save(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Write a figure; the format follows the suffix, equal figures give equal bytes.

    Raises:
        StorageError: no such format.
    """
    suffix = Path(path).suffix
    known = figure.canvas.get_supported_filetypes()
    if suffix[1:] not in known:
        raise StorageError(f"{path}: a figure's name has to end in .svg, .pdf or .png")
    with atomic_path(path) as partial, paper_style():
        figure.savefig(partial, format=suffix[1:], metadata=METADATA.get(suffix))


def save_with_data(figure: Figure, data: pd.DataFrame, paths: Iterable[str]) -> None:
    """Write a figure in every format asked for, and its data where a path ends in ``.csv``."""
    for path in paths:
        if path.endswith(".csv"):
            with atomic_path(path) as partial:
                data.to_csv(partial, index=False)
        else:
            save(figure, path)


def two_lines(label: str) -> str:
    """Return a data set's label with what is in brackets on a second line."""
    return label.replace(" (", "\n(")


def box_statistics(values: pd.Series) -> dict[str, float]:
    """Return what the paper's box plots show: P5, quartiles and P95, mean, number of values.

    All but the number is NaN where there are none.
    """
    nothing = np.full(len(BOX_PERCENTILES), np.nan)
    p5, q1, median, q3, p95 = np.percentile(values, BOX_PERCENTILES) if len(values) else nothing
    return {
        "p5": float(p5),
        "q1": float(q1),
        "median": float(median),
        "q3": float(q3),
        "p95": float(p95),
        "mean": float(values.mean()),
        "configurations": len(values),
    }


def draw_boxes(axes: Axes, boxes: pd.DataFrame, colors: Sequence[str], width: float = 0.55) -> None:
    """Draw rows of `box_statistics` at x = 0, 1, ...: whiskers P5-P95, no fliers, dot = mean."""
    names = {"p5": "whislo", "median": "med", "p95": "whishi"}  # Matplotlib's
    columns = ["p5", "q1", "median", "q3", "p95", "mean"]
    drawn = axes.bxp(
        [{names.get(c, c): box[c] for c in columns} for _, box in boxes.iterrows()],
        positions=list(range(len(boxes))),
        widths=width,
        patch_artist=True,
        showfliers=False,
        showmeans=True,
        medianprops={"color": "black", "linewidth": 1.2},
        meanprops={
            "marker": "o",
            "markersize": 4.5,
            "markerfacecolor": "white",
            "markeredgecolor": "black",
        },
    )
    for box, color in zip(drawn["boxes"], colors, strict=True):
        box.set_facecolor(color)
