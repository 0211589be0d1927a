"""One panel a data set, in a row: what the figures of single traces share."""

from collections.abc import Iterator, Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from marconi_core.plots.style import two_lines
from marconi_core.report.roles import Role


def labelled(rows: pd.DataFrame, roles: Sequence[Role]) -> pd.DataFrame:
    """Put the data sets' labels in front of their rows, data sets in the order of `roles`."""
    labels = {role.dataset: role.label for role in roles}
    order = {role.dataset: place for place, role in enumerate(roles)}
    sorted_rows = rows.sort_values("dataset", key=lambda names: names.map(order), kind="stable")
    own = sorted_rows.drop(columns="dataset").reset_index(drop=True)
    names = sorted_rows["dataset"].reset_index(drop=True)
    return pd.concat([names, names.map(labels).rename("label"), own], axis=1)


def panels(
    figure: Figure, rows: pd.DataFrame, sharey: bool = True
) -> Iterator[tuple[Axes, pd.DataFrame]]:
    """Yield axes, titled with the data set's label, and rows of each data set; then a legend is put."""
    names = rows["dataset"].unique()
    row_of_axes = figure.subplots(1, len(names), sharey=sharey, squeeze=False)[0]
    for axes, name in zip(row_of_axes, names, strict=True):
        own = rows[rows["dataset"] == name]
        axes.set_title(two_lines(own["label"].iloc[0]))
        yield axes, own
    handles, labels = row_of_axes[0].get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc="outside right center")
