"""The record of kills: a table, its conditions, and a figure."""

import json
import os
from datetime import date
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from marconi_core.files import write_text
from marconi_core.plots.style import SERIES_COLORS, paper_style, save_with_data
from marconi_core.provenance import versions

KINDS = {"snakemake": "Snakemake", "rule": "rule", "worker": "simulation"}


def write(rows: pd.DataFrame, folder: Path, workload: str, seed: int, seconds: float) -> None:
    """Write ``kills.csv``, ``kills.svg`` and ``kills.json`` (when, on what, in which versions)."""
    conditions = {
        "date": date.today().isoformat(),
        "command": "make test-faults",
        "workload": workload,
        "seed": seed,
        "undisturbed_s": round(seconds, 1),
        "cpus": os.cpu_count(),
        **versions(),
    }
    save_with_data(draw(rows), rows, [str(folder / "kills.csv"), str(folder / "kills.svg")])
    write_text(folder / "kills.json", json.dumps(conditions, indent=2) + "\n")


def draw(rows: pd.DataFrame) -> Figure:
    """Draw, for each kill, the jobs that were complete, those left to do, and those done twice."""
    with paper_style():
        figure = Figure(figsize=(6.4, 0.2 * len(rows) + 1.2), layout="constrained")
        axes = figure.subplots()
        kept = rows["complete"] - rows["recomputed"]
        parts = {
            "complete, kept": (kept, SERIES_COLORS[0]),
            "complete, computed twice": (rows["recomputed"], SERIES_COLORS[1]),
            "left to do": (rows["jobs"] - rows["complete"], "#DDDDDD"),
        }
        start = 0 * kept
        for label, (count, color) in parts.items():
            axes.barh(rows.index, count, left=start, color=color, label=label)
            start = start + count
        names = [
            KINDS[row.kind] + (f" ({row.process})" if row.kind == "rule" else "")
            for row in rows.itertuples()
        ]
        moments = [f"{name}, {s:.1f} s" for name, s in zip(names, rows["after_s"], strict=True)]
        axes.set_yticks(rows.index, moments)
        axes.invert_yaxis()
        axes.set_xlim(0, rows["jobs"].max())
        axes.set_xlabel("jobs of the pipeline, when the killed run was over")
        figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=3)
        return figure
