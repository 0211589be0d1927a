"""Verdicts follow from the results and the tolerances, never from habit."""

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from marconi_core.errors import DataError
from marconi_core.report.claims import (
    NO_DATA,
    NOT,
    OTHER_GRID,
    PARTLY,
    REPRODUCED,
    STAND_IN_ONLY,
    Claim,
    evaluate,
    load_claims,
    printed_values,
    verdict,
)
from marconi_core.report.measures import FIGURE, FORMULAS, GRID, MEASURES
from marconi_core.report.page import summary, to_front, to_html, to_markdown, verdicts
from marconi_core.report.roles import Role

OWN = Role("chats", "sharegpt", stand_in=False)
STAND_IN = Role("chats", "lmsys", stand_in=True)


def claim(paper: str, **changes: object) -> Claim:
    values = {
        "claim": "x",
        "figure": "7b",
        "paper_dataset": "sharegpt",
        "text": "a ratio",
        "measure": "mean_ratio_over_vllm_plus",
        "at": "",
        "paper": paper,
        "unit": "x",
        "reference": "",
        "reproduced_within": "digits",
        "partly_within": 0.1,
    }
    return Claim(**{**values, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("value", "expected"),
    [(7.334, REPRODUCED), (7.26, REPRODUCED), (7.2, PARTLY), (8.0, PARTLY), (8.1, NOT), (1.0, NOT)],
)
def test_verdict_by_printed_digits(value: float, expected: str) -> None:
    assert verdict(claim("7.3"), value) == expected


def test_verdict_by_relative_tolerance() -> None:
    loose = claim("100", reproduced_within="0.02", partly_within=0.5)
    assert verdict(loose, 102) == REPRODUCED
    assert verdict(loose, 103) == PARTLY


def test_only_the_papers_data_in_its_own_configurations_are_judged(
    runs: pd.DataFrame, requests: pd.DataFrame
) -> None:
    other = replace(OWN, papers_grid=False)
    for role, expected in (
        (OWN, {REPRODUCED, PARTLY, NOT}),
        (replace(OWN, stand_in=True), {STAND_IN_ONLY}),
        (replace(OWN, stand_in=True, papers_grid=False), {STAND_IN_ONLY}),
        (other, {OTHER_GRID}),
    ):
        table = evaluate(load_claims(), runs, requests, [role])
        own = table[table["data"] == role.label]
        assert len(own) and set(own["verdict"]) <= expected, role
        assert (own["reference_code"] != "").any() == (role is OWN)
    titles = [
        section.title for section in verdicts(evaluate(load_claims(), runs, requests, [other]))
    ]
    assert "The paper's own data, but not its configurations: not judged" in titles


def test_a_changed_result_changes_the_verdict(runs: pd.DataFrame, requests: pd.DataFrame) -> None:
    claims = [claim("5.9", reference="5.850")]  # the mean of 8.8, 5.0 and 3.75
    [before] = evaluate(claims, runs, requests, [OWN]).to_dict("records")
    assert (before["ours"], before["verdict"]) == ("5.9", REPRODUCED)
    assert before["reference_code"] == "5.850 (same)"

    changed = runs.copy()
    changed.loc[changed["policy"] == "marconi", "token_hit_rate"] *= 0.97
    [after] = evaluate(claims, changed, requests, [OWN]).to_dict("records")
    assert (after["ours"], after["verdict"]) == ("5.7", PARTLY)
    assert after["reference_code"].startswith("5.850 (here 5.67")


def test_exact_value_keeps_what_rounding_leaves_out(
    runs: pd.DataFrame, requests: pd.DataFrame
) -> None:
    [row] = evaluate([claim("5.9")], runs, requests, [OWN]).to_dict("records")
    assert float(row["ours_exact"]) > 1_000  # 20 % over 0.001 %


def test_every_published_claim_gets_a_row(runs: pd.DataFrame, requests: pd.DataFrame) -> None:
    claims = load_claims()
    table = evaluate(claims, runs, requests, [OWN, STAND_IN])
    assert set(table["claim"]) == {claim.claim for claim in claims}
    needs = table["claim"].map({claim.claim: MEASURES[claim.measure].needs for claim in claims})
    dataset = table["claim"].map({claim.claim: claim.paper_dataset for claim in claims})
    assert set(table["verdict"][needs == FIGURE]) == {NO_DATA}, "no experiment was given"
    assert set(table["verdict"][(needs == GRID) & (dataset == "swebench")]) == {NO_DATA}
    assert set(table["verdict"][(needs == GRID) & (dataset == "lmsys")]) == {STAND_IN_ONLY}
    own = table["verdict"][(needs == GRID) & (dataset == "sharegpt")]
    assert set(own) <= {REPRODUCED, PARTLY, NOT}
    assert set(table["verdict"][needs == FORMULAS]) == {REPRODUCED}


def test_published_claims_use_every_measure() -> None:
    claims = load_claims()
    assert {claim.measure for claim in claims} == set(MEASURES)
    assert len({claim.claim for claim in claims}) == len(claims)
    grid = [claim for claim in claims if MEASURES[claim.measure].needs == GRID]
    assert len(grid) == 3 * len({claim.measure for claim in grid})
    assert printed_values("mean_ratio_over_vllm_plus")["sharegpt"] == "7.3"


def experiments() -> dict[str, pd.DataFrame]:
    """Rows of two experiments on `chats`, as small as they can be."""
    sweep = pd.DataFrame(
        {
            "dataset": "chats",
            "x": ["100", "100", "60", "60"],
            "policy": ["marconi", "sglang_plus"] * 2,
            "token_hit_rate": [0.42, 0.25, 0.1, 0.0],
        }
    )
    contended = pd.DataFrame(
        {
            "dataset": "chats",
            "policy": ["sglang_plus"] * 2 + ["marconi"] * 2,
            "input_tokens": [1_000, 3_000] * 2,
            "skipped_tokens": [0, 1_000, 0, 2_000],
            "flops_saved_in_all": [2.0, 2.0, 5.0, 5.0],
        }
    )
    return {"fig11": sweep, "fig10": contended}


@pytest.mark.parametrize(
    ("figure", "measure", "at", "paper", "ours"),
    [
        ("11", "gain_over_sglang_plus_at", "100", "68.3", "68.0"),
        ("11", "ratio_over_sglang_plus_at", "100", "1.7", "1.7"),
        ("11", "ratio_over_sglang_plus_at", "60", "1.7", "nan"),  # SGLang+ never hits
        ("10a", "hit_rate_percent", "marconi", "32.7", "50.0"),
        ("10a", "hit_gain", "", "99.4", "100.0"),
        ("10a", "flops_gain", "", "90.3", "150.0"),
        ("10b", "ttft_reduction_ms", "100", "53.0", "53.0"),  # 1,000 tokens more, at the last
    ],
)
def test_claims_on_single_traces(
    runs: pd.DataFrame,
    requests: pd.DataFrame,
    figure: str,
    measure: str,
    at: str,
    paper: str,
    ours: str,
) -> None:
    one = claim(paper, figure=figure, measure=measure, at=at)
    [row] = evaluate([one], runs, requests, [OWN], experiments()).to_dict("records")
    assert row["ours"] == ours
    assert (row["verdict"] == REPRODUCED) == (ours == paper)


def test_a_value_that_is_none_is_not_reproduced() -> None:
    assert verdict(claim("7.3"), float("nan")) == NOT


@pytest.mark.parametrize(("column", "value"), [("measure", "nonsense"), ("paper", "7,3")])
def test_a_broken_claims_file_is_named(tmp_path: Path, column: str, value: str) -> None:
    path = tmp_path / "claims.csv"
    rows = pd.DataFrame([claim("7.3")._asdict()]).assign(**{column: value})
    rows.to_csv(path, index=False)
    with pytest.raises(DataError, match=r"claims\.csv:2: bad claim"):
        load_claims(path)


def test_summary_page(runs: pd.DataFrame, requests: pd.DataFrame) -> None:
    table = evaluate(load_claims(), runs, requests, [OWN])
    sections = summary(table, runs, [OWN], {"swebench": "not <here>"}, {"numpy": "2.0"})
    page = to_markdown(sections)
    assert "| 7b | token hit rate" in page
    assert "- swebench: not <here>" in page
    assert "alpha = 0, so without FLOP-aware eviction, in 1 of 4 configurations" in page
    assert "(0 tuned to 0, 1 never tuned)" in page
    assert "in 1 of 4 configurations; least favourable is chats_sps=2_nums=2 at 1e+09 bytes" in page
    assert "0.00 %) in 1 of 4 configurations; the mean ratio leaves them out" in page
    assert "vllm_plus up to 2.00x" in page
    assert "numpy 2.0" in page
    html = to_html(sections)
    assert "<td>7b</td>" in html
    assert "<li>swebench: not &lt;here&gt;</li>" in html


def test_the_verdict_table_has_what_can_be_judged_first(
    runs: pd.DataFrame, requests: pd.DataFrame
) -> None:
    live = {("fig8-lmsys", STAND_IN.label): "12.3"}
    table = evaluate(load_claims(), runs, requests, [OWN, STAND_IN], live=live)
    assert table.set_index(["claim", "data"])["live"]["fig8-lmsys", STAND_IN.label] == "12.3"
    head, judged, stand_ins, nothing, source = verdicts(table, "chats on a GPU")
    assert "reproduced" in head.text and source.text.startswith("chats on a GPU; ")
    tables = [section.table for section in (judged, stand_ins, nothing)]
    shown = [set(found["verdict (simulated)"]) for found in tables if found is not None]
    assert shown[0] <= {REPRODUCED, PARTLY, NOT} and shown[1:] == [{STAND_IN_ONLY}, {NO_DATA}]
    assert judged.table is not None and set(judged.table["rerun"]) >= {"fig7", "fig9b", "table1"}
    front = to_front([head, judged])
    assert front.count("<table") == 1 and "<html" not in front
