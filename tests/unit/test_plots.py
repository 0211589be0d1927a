"""Figures: the numbers that are drawn, and the same bytes for the same numbers."""

from collections.abc import Callable
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from marconi_core.plots import fig7, fig8, fig9
from marconi_core.plots.style import box_statistics, paper_style, save, save_with_data
from marconi_core.report.latency import PUBLISHED, measured
from marconi_core.report.roles import Role

OWN = Role("chats", "sharegpt", stand_in=False)
STAND_IN = Role("chats", "swebench", stand_in=True)
UNKNOWN = Role("chats", None, stand_in=True)


LATENCIES = [PUBLISHED, measured()]


def draw_fig7(runs: pd.DataFrame, requests: pd.DataFrame) -> Figure:
    return fig7.draw(fig7.table(runs, [OWN], {"sharegpt": "7.3"}))


def draw_fig8(runs: pd.DataFrame, requests: pd.DataFrame) -> Figure:
    return fig8.draw(fig8.table(runs, [OWN, UNKNOWN], {"sharegpt": "19.0"}))


def draw_fig9(runs: pd.DataFrame, requests: pd.DataFrame) -> Figure:
    return fig9.draw(fig9.table(requests, OWN, {"sharegpt": "73.2"}, LATENCIES))


every_figure = pytest.mark.parametrize("draw", [draw_fig7, draw_fig8, draw_fig9])


def texts(figure: Figure) -> str:
    return "\n".join(text.get_text() for text in figure.findobj(mpl.text.Text))


@every_figure
@pytest.mark.parametrize("suffix", ["svg", "pdf"])
def test_same_numbers_give_the_same_bytes(
    draw: Callable[..., Figure],
    suffix: str,
    runs: pd.DataFrame,
    requests: pd.DataFrame,
    tmp_path: Path,
) -> None:
    first, second = tmp_path / f"first.{suffix}", tmp_path / f"second.{suffix}"
    save(draw(runs, requests), first)
    save(draw(runs, requests), second)
    assert first.read_bytes() == second.read_bytes()


@every_figure
def test_users_matplotlib_settings_change_nothing(
    draw: Callable[..., Figure], runs: pd.DataFrame, requests: pd.DataFrame, tmp_path: Path
) -> None:
    save(draw(runs, requests), tmp_path / "plain.svg")
    with mpl.rc_context({"font.size": 20, "axes.grid": False}):
        save(draw(runs, requests), tmp_path / "custom.svg")
    assert (tmp_path / "plain.svg").read_bytes() == (tmp_path / "custom.svg").read_bytes()


def test_style_ends_with_its_block() -> None:
    before = mpl.rcParams["axes.grid"]
    with paper_style():
        assert mpl.rcParams["axes.grid"] is True
    assert mpl.rcParams["axes.grid"] == before


def test_box_statistics_are_the_papers() -> None:
    box = box_statistics(pd.Series(np.arange(101.0)))
    assert box == {
        "p5": 5, "q1": 25, "median": 50, "q3": 75, "p95": 95, "mean": 50, "configurations": 101,
    }  # fmt: skip


def test_fig7_table(runs: pd.DataFrame) -> None:
    boxes = fig7.table(runs, [OWN], {"sharegpt": "7.3"})
    assert boxes["policy"].tolist() == ["vllm_plus", "marconi"]
    assert boxes["mean"].tolist() == pytest.approx([8.75025, 47.25])
    assert boxes["mean_ratio"].tolist() == pytest.approx([17.55 / 3] * 2)
    assert boxes["paper_mean_ratio"].tolist() == ["7.3", "7.3"]


def test_fig7_shows_the_papers_value(runs: pd.DataFrame, requests: pd.DataFrame) -> None:
    shown = texts(draw_fig7(runs, requests))
    assert "paper 7.3x" in shown
    assert "here 5.85x" in shown


@pytest.mark.parametrize(
    ("role", "title"), [(STAND_IN, "chats\n(stand-in for SWEBench)"), (UNKNOWN, "chats")]
)
def test_fig7_names_stand_ins(runs: pd.DataFrame, role: Role, title: str) -> None:
    shown = texts(fig7.draw(fig7.table(runs, [role], {"sharegpt": "7.3"})))
    assert title in shown
    assert "paper" not in shown


def test_fig8_table_and_labels(runs: pd.DataFrame, requests: pd.DataFrame) -> None:
    [box] = fig8.table(runs, [OWN], {"sharegpt": "19.0"}).to_dict("records")
    assert box["mean"] == pytest.approx(3.75)
    assert (box["minimum"], box["maximum"]) == (pytest.approx(-20), pytest.approx(25))
    shown = texts(draw_fig8(runs, requests))
    assert "P95 here 22.75 %\npaper 19.0 % (◆)\n" in shown
    assert shown.count("P95 here") == 2
    assert shown.count("paper") == 1


def test_fig9_has_one_row_per_configuration_policy_and_latency(requests: pd.DataFrame) -> None:
    rows = fig9.table(requests, OWN, {"sharegpt": "73.2"}, LATENCIES)
    assert rows.groupby("latency", sort=False).size().tolist() == [12, 12]
    assert rows["relative_percent"].between(0, 100 + 1e-9).all()
    # the paper's number is about the paper's latencies
    assert list(rows.groupby("latency", sort=False)["paper_reduction_percent"].first()) == [
        "73.2",
        "",
    ]
    assert "nemotron-h-8b on\nNVIDIA H100 80GB HBM3, random weights" in texts(fig9.draw(rows))


def test_data_is_written_beside_the_figure(
    runs: pd.DataFrame, requests: pd.DataFrame, tmp_path: Path
) -> None:
    boxes = fig7.table(runs, [OWN], {})
    paths = [str(tmp_path / name) for name in ("fig7.svg", "fig7.pdf", "fig7.csv")]
    save_with_data(fig7.draw(boxes), boxes, paths)
    assert (tmp_path / "fig7.svg").read_text(encoding="utf-8").startswith("<?xml")
    assert (tmp_path / "fig7.pdf").read_bytes().startswith(b"%PDF")
    assert len(pd.read_csv(tmp_path / "fig7.csv")) == 2
