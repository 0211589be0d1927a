"""Figures of formulas, of single traces, and of studies: numbers, labels, the same bytes."""

from importlib import import_module
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from marconi_core.experiments import EXPERIMENTS, FIGURES
from marconi_core.experiments.base import Setting
from marconi_core.experiments.geometry import FORMULAS, models
from marconi_core.models import MODELS
from marconi_core.plots import ablation, alpha, fig3b, fig5, fig14, geometry, regret, table1
from marconi_core.plots.style import save
from marconi_core.report.claims import printed_by_claim
from marconi_core.report.roles import Role
from marconi_core.traces.sources import load_workload
from marconi_core.traces.trace import Trace

ROLE = {
    name: Role("agents", next(iter(one.arrivals or {"swebench": ()})), stand_in=True)
    for name, one in EXPERIMENTS.items()
}
PAPER = printed_by_claim()


@pytest.fixture(scope="module")
def setting() -> Setting:
    """A workload small enough for every experiment, that fills a cache of a few gigabytes."""
    workload = load_workload("synthetic", {"sessions": 12, "mix": {"agent": 1.0}, "seed": 5})

    def trace(arrivals: object) -> Trace:
        return workload.schedule(arrivals.timestamps(workload))  # type: ignore[attr-defined]

    return Setting(trace, MODELS["paper_7b"], (0.0, 1.0), 2, (1.5e9, 3e9))


@pytest.fixture(scope="module")
def rows(setting: Setting) -> dict[str, pd.DataFrame]:
    """What every experiment finds."""
    found = {}
    for name, experiment in EXPERIMENTS.items():
        arrivals = next(
            iter((experiment.arrivals or EXPERIMENTS["fig13a"].arrivals or {}).values())
        )
        found[name] = experiment.run(setting, arrivals).assign(dataset="agents")
    return found


def drawn(name: str, rows: dict[str, pd.DataFrame]) -> Figure:
    figure = import_module(f"marconi_core.plots.{name}")
    return figure.draw(figure.table(rows[name], [ROLE[name]]), PAPER)


def texts(figure: Figure) -> str:
    return "\n".join(text.get_text() for text in figure.findobj(mpl.text.Text))


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_experiments_are_drawn_the_same_twice_and_name_stand_ins(
    name: str, rows: dict[str, pd.DataFrame], tmp_path: Path
) -> None:
    assert "stand-in for" in texts(drawn(name, rows))
    save(drawn(name, rows), tmp_path / "first.svg")
    save(drawn(name, rows), tmp_path / "second.svg")
    assert (tmp_path / "first.svg").read_bytes() == (tmp_path / "second.svg").read_bytes()


@pytest.mark.parametrize("figure", [fig3b, fig5, fig14])
def test_formulas_are_drawn_the_same_twice(figure: object, tmp_path: Path) -> None:
    def draw() -> Figure:
        return figure.draw(figure.table(), PAPER)  # type: ignore[attr-defined]

    save(draw(), tmp_path / "first.pdf")
    save(draw(), tmp_path / "second.pdf")
    assert (tmp_path / "first.pdf").read_bytes() == (tmp_path / "second.pdf").read_bytes()


def test_fig3b_is_the_papers_formula() -> None:
    sizes = fig3b.table().set_index("tokens").loc[10_000]
    assert sizes.round(2).tolist() == [34.14, 17.4, 9.04, 5.24]


def test_fig5_and_fig14_hardly_depend_on_the_recurrence() -> None:
    saved = fig5.table()
    assert ((saved["flops_per_byte"] / saved["as_drawn"] - 1).between(0, 1e-3)).all()
    assert (saved[saved["model"] == "Transformer"]["flops_per_byte"] > 24_576).all()
    parts = fig14.table()
    assert (parts["mamba"] > parts["mamba_as_drawn"]).all()
    assert parts["attention_percent"].is_monotonic_increasing


def test_table1_says_where_table_and_simulator_differ() -> None:
    rows = table1.table().set_index(["layer", "quantity"])
    assert rows.loc[("SSM", "FLOPs"), "printed"] == "12LD² + 16LDN + 10L"
    different = rows["difference_percent"] != 0
    assert different[different].index.tolist() == [("SSM", "FLOPs"), ("SSM", "bytes")]
    assert rows.loc[("SSM", "bytes"), "simulator_value"] == 1_116_160


@pytest.mark.parametrize("name", ["fig11", "fig12a", "fig12b", "fig13a", "fig13b"])
def test_microbenchmarks_have_the_papers_points_beside_ours(
    name: str, rows: dict[str, pd.DataFrame]
) -> None:
    table = import_module(f"marconi_core.plots.{name}").table(rows[name], [ROLE[name]])
    assert table["paper_hit_rate_percent"].notna().all()
    assert table["hit_rate_percent"].between(0, 100).all()
    marconi = table[table["policy"] == "marconi"]
    assert marconi["paper_hit_rate_of_marconi"].tolist() == pytest.approx([100] * len(marconi))


def test_fig6_counts_every_request(rows: dict[str, pd.DataFrame]) -> None:
    figure = import_module("marconi_core.plots.fig6")
    bins = figure.table(rows["fig6"], [ROLE["fig6"]])
    assert (bins.groupby("kind")["requests"].sum() == len(rows["fig6"])).all()


def test_fig10_bins_add_up(rows: dict[str, pd.DataFrame]) -> None:
    figure = import_module("marconi_core.plots.fig10")
    table = figure.table(rows["fig10"], [ROLE["fig10"]])
    own = rows["fig10"].pivot(index="request", columns="policy", values="skipped_tokens")
    tokens = rows["fig10"].drop_duplicates("request").set_index("request")["input_tokens"]
    gains = 100 * (own["marconi"] - own["sglang_plus"]) / tokens
    bins = table[table["panel"] == "a"]
    mean = (bins["points"] * bins["requests"]).sum() / bins["requests"].sum()
    assert mean == pytest.approx(gains[tokens < 32_000].mean())
    assert table.groupby("panel")["latency"].nunique().to_dict() == {"a": 0, "b": 1, "c": 1}


def test_ablation_is_relative_to_the_papers_code(rows: dict[str, pd.DataFrame]) -> None:
    table = ablation.table(rows["ablation"], [ROLE["ablation"]]).set_index("corrected")
    assert table.loc["paper", "mean_hit_rate_change"] == 0
    assert table.loc["paper", "mean_ratio_change"] == 1
    assert table.loc["everything", "largest_overrun"] <= 1 < table.loc["paper", "largest_overrun"]
    assert table.loc["expanded_state", "mean_hit_rate_change"] < 0


def test_regret_is_what_a_policy_leaves(rows: dict[str, pd.DataFrame]) -> None:
    table = regret.table(rows["regret"], [ROLE["regret"]])
    assert (table["mean"] <= table["upper"]).all() and (table["schedule"] <= table["upper"]).all()
    assert table["regret"].between(0, 100).all()


def test_models_differ_by_their_states(rows: dict[str, pd.DataFrame]) -> None:
    table = geometry.table(rows["geometry"], [ROLE["geometry"]])
    assert set(table["model"]) == set(geometry.NAMES) == set(models())
    assert (table["tokens_per_state"].groupby(table["scale"]).diff().dropna() >= 0).all()
    equal_bytes = table[table["scale"] == "bytes"].set_index("model")
    assert (equal_bytes["cache_scale"] == 1).all()
    equal_share = table[table["scale"] == "share"].set_index("model")
    assert (equal_share["cache_scale"][list(FORMULAS)] == 1).all()
    # one number of states and one of tokens explains every model's cache
    found = np.linalg.lstsq(
        equal_share[["state_bytes", "kv_bytes_per_token"]], equal_share["cache_scale"], rcond=None
    )
    states, tokens = found[0]
    assert states > 0 and tokens > states
    np.testing.assert_allclose(
        states * equal_share["state_bytes"] + tokens * equal_share["kv_bytes_per_token"],
        equal_share["cache_scale"], rtol=1e-9,
    )  # fmt: skip


def test_geometry_is_drawn_where_vllm_never_hits(rows: dict[str, pd.DataFrame]) -> None:
    vllm = rows["geometry"]["policy"] == "vllm_plus"
    silent = rows["geometry"].assign(token_hit_rate=lambda r: r["token_hit_rate"].where(~vllm, 0.0))
    table = geometry.table(silent, [ROLE["geometry"]])
    assert table["ratio_to_vllm_plus"].isna().all() and (table["ratio_configurations"] == 0).all()
    assert "none" in texts(geometry.draw(table, PAPER))


def test_alpha_by_part(tmp_path: Path) -> None:
    """Two configurations of ten requests; alpha 1 is better in the second half, and tuned at 6."""
    runs = pd.DataFrame(
        {
            "policy": "marconi", "dataset": "agents", "trace": "t", "requests": 10,
            "capacity_bytes": [1e9, 2e9], "alpha": [1.0, 0.0], "tuned": [True, False],
            "bootstrap_window": [5, 50],
        }
    )  # fmt: skip
    frames = []
    for capacity in (1e9, 2e9):
        for policy, static in (("oracle", 0.0), ("oracle", 1.0), ("marconi", 0.0)):
            late = np.arange(10) >= 5
            better = (late if static else ~late) if policy == "oracle" else np.ones(10, bool)
            frames.append(
                pd.DataFrame(
                    {
                        "dataset": "agents", "trace": "t", "capacity_bytes": capacity,
                        "policy": policy, "alpha": static, "request": np.arange(10),
                        "input_tokens": 100, "skipped_tokens": np.where(better, 50, 10),
                    }
                )
            )  # fmt: skip
    runs.to_parquet(tmp_path / "runs.parquet")
    pd.concat(frames).to_parquet(tmp_path / "requests.parquet")
    parts = alpha.rows([tmp_path / "runs.parquet"], [tmp_path / "requests.parquet"])
    assert len(parts) == 20
    first = parts[parts["capacity_bytes"] == 1e9]
    assert first["best_alpha_of_part"].tolist() == [0.0] * 5 + [1.0] * 5
    assert first["tuned_alpha"].tolist() == [0.0] * 5 + [1.0] * 5
    assert alpha.gains(parts)["tuned"].tolist() == pytest.approx([20, 20])
    assert "tuning hurts 0, helps 2" in texts(
        alpha.draw(alpha.table(parts, [Role("agents", None, stand_in=True)]), {})
    )


def test_every_figure_has_a_module_and_a_caption(repository: Path) -> None:
    for name in (*FIGURES, "fig3b", "fig5", "fig14", "table1", "ablation", "regret", "geometry"):
        import_module(f"marconi_core.plots.{name}")
        assert (repository / f"workflow/report/{name}.rst").is_file()
