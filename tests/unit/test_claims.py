"""Verdicts follow from the results and the tolerances, never from habit."""

from pathlib import Path

import pandas as pd
import pytest

from marconi_core.errors import DataError
from marconi_core.report.claims import (
    MEASURES,
    NO_DATA,
    NOT,
    PARTLY,
    REPRODUCED,
    STAND_IN_ONLY,
    Claim,
    evaluate,
    load_claims,
    printed_values,
    verdict,
)
from marconi_core.report.page import summary, to_html, to_markdown
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
    assert verdict(claim("7.3"), value, stand_in=False) == expected


def test_verdict_by_relative_tolerance() -> None:
    loose = claim("100", reproduced_within="0.02", partly_within=0.5)
    assert verdict(loose, 102, stand_in=False) == REPRODUCED
    assert verdict(loose, 103, stand_in=False) == PARTLY


def test_a_stand_in_is_never_reproduced() -> None:
    assert verdict(claim("7.3"), 7.3, stand_in=True) == STAND_IN_ONLY


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
    verdicts = table.groupby(table["claim"].str.split("-").str[1])["verdict"].agg(set)
    assert verdicts["swebench"] == {NO_DATA}
    assert verdicts["lmsys"] == {STAND_IN_ONLY}
    assert verdicts["sharegpt"] <= {REPRODUCED, PARTLY, NOT}


def test_published_claims_use_every_measure_for_every_dataset() -> None:
    claims = load_claims()
    assert {claim.measure for claim in claims} == set(MEASURES)
    assert len(claims) == 3 * len(MEASURES)
    assert printed_values("mean_ratio_over_vllm_plus")["sharegpt"] == "7.3"


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
