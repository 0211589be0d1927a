"""Live values of the paper's claims, and how each claim is computed again."""

import re
from pathlib import Path

import pandas as pd
import pytest

from marconi_core.report.claims import load_claims, load_reruns
from marconi_core.report.live import table
from marconi_core.report.live_claims import live_values, servers
from marconi_core.report.predicted import read_predictions
from marconi_core.report.roles import Role, role_of
from marconi_core.serving.recordings import SIMULATED, read_recordings, recorded_files

TRACE = "agents_sps=1_art=5_nums=9"


def replay(variant: str, hits: float, ttft: float, **changes: object) -> dict[str, object]:
    return {
        "occasion": "here", "server": "a GPU", "load": "8 in flight", "trace": TRACE, "dataset": "agents",
        "data": "agents", "states": 40, "kv_tokens": 9000, "variant": variant,
        "requests": 3, "repeats": 3, "token_hit_rate": hits,
        **{f"ttft_p{p}_ms": ttft for p in (5, 50, 95)}, **changes,
    }  # fmt: skip


REPLAYS = [
    replay("no_cache", 0.0, 400),
    replay("admission_only", 0.25, 200),
    replay("marconi", 0.5, 150),
    replay("marconi@0.5", 0.4, 100),
]


def values(rows: list[dict[str, object]]) -> dict[str, str]:
    found = live_values(load_claims(), pd.DataFrame(rows))
    assert {dataset for _, dataset in found} <= {"agents"}
    return {claim: text for (claim, _), text in found.items()}


def test_each_claim_is_measured_between_its_own_policies() -> None:
    found = values(REPLAYS)
    assert found["fig10-sglang"] == "25.0"
    assert found["fig10-marconi"] == "50.0"
    assert found["fig10-gain"] == "100.0"
    assert found["fig10-p50"] == "50.0"
    assert found["fig10-p95-ms"] == "100.0"
    assert found["fig9-sharegpt-vanilla"] == "75.0"
    assert found["fig9-sharegpt-vanilla-ms"] == "300.0"
    assert found["fig9-sharegpt-sglang"] == "25.0"  # 100 ms of 400


def test_claims_on_what_no_server_does_have_no_live_value() -> None:
    assert not {claim for claim in values(REPLAYS) if re.match("fig(3|7|1[1-4])|.*vllm", claim)}


def test_several_pool_sizes_are_a_range_and_the_best_counts_for_up_to() -> None:
    larger = [{**row, "states": 80} for row in REPLAYS]
    larger[2] = replay("marconi", 0.6, 80, states=80)
    found = values([*REPLAYS, *larger])
    assert found["fig10-marconi"] == "50.0 to 60.0"
    assert found["fig9-sharegpt-vanilla"] == "80.0"


def test_policies_are_compared_under_the_same_load_only() -> None:
    busy = [{**row, "load": "16 in flight"} for row in REPLAYS[1:2]]
    assert "fig10-gain" in values(REPLAYS)
    assert values([*busy, *REPLAYS[2:3]]) == {"fig10-sglang": "25.0", "fig10-marconi": "50.0"}


def test_any_name_of_a_trace_has_its_data_set() -> None:
    roles = [Role(name, None, False) for name in ("chats", "chats_long", "mooncake")]
    for trace, dataset in (
        ("chats_sps=1_nums=3", "chats"),
        ("chats_long_sps=1_nums=3_tekken", "chats_long"),
        ("mooncake_recorded_nums=9_llama2", "mooncake"),
        ("chats", "chats"),
    ):
        found = role_of(trace, roles)
        assert found is not None and found.dataset == dataset
    for other in ("chatter_sps=1", "chats_more_sps=1_nums=3"):
        assert role_of(other, roles) is None


def test_recorded_stand_ins_stay_stand_ins() -> None:
    """Whatever a configuration has under their names."""
    own = [Role(name, name, stand_in=False) for name in ("sharegpt", "swebench")]
    shipped = read_recordings(recorded_files("replay"))
    found = table(shipped, read_predictions([]), own).groupby("trace")["data"].first()
    assert found["sharegpt_long_sps=1_nums=100_tekken"] == "sharegpt_long (stand-in for LMSys)"
    assert found["swebench_sps=1_art=5_nums=100_tekken"] == "swebench (stand-in for SWEBench)"
    assert found["sharegpt_sps=1_nums=100_tekken"] == "ShareGPT"


def test_policies_are_compared_under_the_same_strategy_only() -> None:
    without_overlap = [replay("marconi_no_buffer", 0.9, 10)]
    assert values([*REPLAYS[1:2], *without_overlap]) == {
        "fig10-sglang": "25.0", "fig10-marconi": "90.0"
    }  # fmt: skip
    assert values([*REPLAYS, *without_overlap])["fig10-p95-ms"] == "100.0"


def test_without_a_baseline_nothing_is_compared() -> None:
    assert values(REPLAYS[2:3]) == {"fig10-marconi": "50.0"}


@pytest.mark.parametrize("rows", [[], [{**row, "server": SIMULATED} for row in REPLAYS]])
def test_simulated_servers_are_not_live(rows: list[dict[str, object]]) -> None:
    replays = pd.DataFrame(rows, columns=list(REPLAYS[0]))
    assert live_values(load_claims(), replays) == {}
    assert servers(replays) == ""


def test_the_source_names_the_trace_and_the_server() -> None:
    assert servers(pd.DataFrame(REPLAYS)) == f"{TRACE} on a GPU (36 requests; 8 in flight)"


def test_every_claim_can_be_rerun_in_the_minutes_that_the_readme_names(repository: Path) -> None:
    reruns = load_reruns()
    assert set(reruns) == {claim.figure for claim in load_claims()}
    readme = (repository / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"\| `snakemake --cores all ([^`]+)` \| \d+ \| (\d+) \|", readme)
    minutes = {target: minutes for targets, minutes in rows for target in targets.split()}
    assert {r.target: r.minutes for r in reruns.values()}.items() <= minutes.items()
