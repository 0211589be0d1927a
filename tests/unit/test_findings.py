"""Sentences about what the figures do not show."""

import pandas as pd

from marconi_core.report.findings import findings


def test_static_alphas_add_the_best_one(runs: pd.DataFrame) -> None:
    marconi = runs[runs["policy"] == "marconi"]
    static = [
        marconi.assign(policy="oracle", alpha=alpha, token_hit_rate=rate)
        for alpha, rate in ((0.0, 0.50), (0.1, 0.60))
    ]
    text = "\n".join(findings(pd.concat([runs, *static])))
    assert "one static alpha everywhere: 50.00 % at 0, at best 60.00 % (alpha 0.1)" in text
    assert "Marconi (tuned) 47.25 %" in text


def test_without_static_alphas_nothing_is_said_about_them(runs: pd.DataFrame) -> None:
    assert "static" not in "\n".join(findings(runs))


def test_caches_within_capacity_are_not_mentioned(runs: pd.DataFrame) -> None:
    within = runs.assign(peak_bytes=runs["capacity_bytes"])
    assert "outgrow" not in "\n".join(findings(within))
