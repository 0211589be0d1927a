"""One panel a data set: what the figures of several data sets share, within a page's width."""

from collections.abc import Iterator, Sequence
from math import ceil
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from marconi_core.plots.style import two_lines
from marconi_core.report.roles import Role

TEXT_WIDTH = 7.0  # inches, of a paper in two columns


def labelled(rows: pd.DataFrame, roles: Sequence[Role]) -> pd.DataFrame:
    """Put the data sets' labels in front of their rows, data sets in the order of `roles`."""
    labels = {role.dataset: role.label for role in roles}
    order = {role.dataset: place for place, role in enumerate(roles)}
    sorted_rows = rows.sort_values("dataset", key=lambda names: names.map(order), kind="stable")
    own = sorted_rows.drop(columns="dataset").reset_index(drop=True)
    names = sorted_rows["dataset"].reset_index(drop=True)
    return pd.concat([names, names.map(labels).rename("label"), own], axis=1)


def grid(
    count: int,
    size: tuple[float, float],
    margin: float = 0.6,
    parts: int = 1,
    in_a_row: int = 4,
    **sharing: Any,
) -> tuple[Figure, list[list[Axes]]]:
    """Return a figure of so many panels, no wider than a page's text.

    Args:
        size: width (the largest) and height of a panel in inches.
        margin: inches for what is beside the panels.
        parts: axes of each panel, one above the other.
        in_a_row: panels in a row at most.
        sharing: options of `Figure.subplots`.

    Returns:
        The figure, and the axes of each panel.
    """
    rows = ceil(count / in_a_row)
    columns = ceil(count / rows)
    width = min(size[0], (TEXT_WIDTH - margin) / columns)
    figure = Figure(figsize=(margin + width * columns, size[1] * rows), layout="constrained")
    axes = figure.subplots(rows * parts, columns, squeeze=False, **sharing)
    found = [
        [axes[row * parts + part, column] for part in range(parts)]
        for row in range(rows)
        for column in range(columns)
    ]
    for spare in (one for panel in found[count:] for one in panel):
        spare.remove()
    return figure, found[:count]


def panels(
    rows: pd.DataFrame, size: tuple[float, float], margin: float = 0.6, in_a_row: int = 4
) -> tuple[Figure, Iterator[tuple[Axes, pd.DataFrame]]]:
    """Return a figure; and axes, titled with the data set's label, and rows of each data set.

    When all have been drawn, a legend is put below. Arguments are those of `grid`.
    """
    figure, axes = grid(rows["dataset"].nunique(), size, margin, in_a_row=in_a_row, sharey=True)
    return figure, _each(figure, [one for (one,) in axes], rows)


def _each(
    figure: Figure, panels: Sequence[Axes], rows: pd.DataFrame
) -> Iterator[tuple[Axes, pd.DataFrame]]:
    for axes, name in zip(panels, rows["dataset"].unique(), strict=True):
        own = rows[rows["dataset"] == name]
        axes.set_title(two_lines(own["label"].iloc[0]))
        yield axes, own
    handles, labels = panels[0].get_legend_handles_labels()
    if handles:
        columns = 2 if len(panels) == 1 else ceil(len(handles) / 2)
        figure.legend(handles, labels, loc="outside lower center", ncols=columns)
