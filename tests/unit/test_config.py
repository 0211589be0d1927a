"""The configuration: what is accepted, and what a mistake is answered with."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from pydantic import ValidationError

from marconi_core.config import Config, load_config
from marconi_core.errors import ConfigError
from marconi_core.rules.study import grid, labels, title
from marconi_core.traces.arrivals import RecordedArrivals


@pytest.fixture
def content() -> dict[str, Any]:
    """A small valid configuration."""
    return {
        "datasets": {
            "chats": {
                "source": "synthetic",
                "sessions": 3,
                "arrivals": {"kind": "typing", "sessions_per_second": [0.25, 1]},
                "capacities_bytes": ["1e9", 2e9],  # YAML 1.1 reads 1e9 as text
            },
            "agents": {
                "source": "synthetic",
                "paper_dataset": "swebench",
                "sessions": 3,
                "arrivals": {
                    "kind": "poisson",
                    "sessions_per_second": [1],
                    "mean_response_time": [5, 7.5],
                },
                "capacities_bytes": [1e9],
                "optional": True,
            },
        }
    }


def message(content: dict[str, Any]) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(content)
    return str(caught.value)


def test_traces_are_named_as_the_papers_files(content: dict[str, Any]) -> None:
    config = load_config(content)
    assert [spec.name for spec in config.traces()] == [
        "chats_sps=0.25_nums=3",
        "chats_sps=1_nums=3",
        "agents_sps=1_art=5_nums=3",
        "agents_sps=1_art=7.5_nums=3",
    ]
    assert len(config.traces(["chats"])) == 2
    assert config.trace("chats_sps=1_nums=3").arrivals.sessions_per_second == 1


def test_unknown_trace_is_an_error(content: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="did you mean `chats_sps=1_nums=3`"):
        load_config(content).trace("chats_sps=1_nums=4")


def test_grid_has_what_a_sweep_needs(content: dict[str, Any]) -> None:
    config = load_config(content)
    agents = grid(config, "agents_sps=1_art=7.5_nums=3")
    assert agents["capacities"] == [1e9]
    assert agents["labels"]["art"] == 7.5
    assert agents["labels"]["seed"] == 42
    assert grid(config, "chats_sps=1_nums=3")["capacities"] == [1e9, 2e9]


def test_values_cannot_change(content: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        load_config(content).model = "jamba"  # type: ignore[misc]


@pytest.mark.parametrize("name", ["default", "paper", "retokenized", "smoke"])
def test_shipped_configurations_are_valid(name: str, repository: Path) -> None:
    config = load_config(repository / f"workflow/config/{name}.yaml")
    assert config.traces()
    assert config.data_mirror is None, "a folder that others do not have"


def test_paper_configuration_is_the_papers_grid(repository: Path) -> None:
    config = load_config(repository / "workflow/config/paper.yaml")
    traces = config.traces(["lmsys", "sharegpt", "swebench"])
    configurations = sum(len(config.datasets[spec.dataset].capacities_bytes) for spec in traces)
    assert (len(traces), configurations) == (30, 138)
    assert config.alphas == tuple(tenths / 10 for tenths in range(21))


def test_roles_tell_stand_ins_apart(content: dict[str, Any]) -> None:
    content["datasets"]["sharegpt"] = content["datasets"]["chats"] | {
        "source": "sharegpt",
        "paper_dataset": "sharegpt",
    }
    config = load_config(content)
    labels = {role.dataset: role.label for role in config.roles(config.datasets)}
    assert labels == {
        "chats": "chats",
        "agents": "agents (stand-in for SWEBench)",
        "sharegpt": "ShareGPT",
    }


@pytest.mark.parametrize(
    ("params", "trace_dir", "stand_in"),
    [({}, None, True), ({"path": "honeycomb"}, None, False), ({}, "archive", False)],
)
def test_swebench_is_a_stand_in_unless_the_user_has_the_papers(
    content: dict[str, Any], params: dict[str, str], trace_dir: str | None, stand_in: bool
) -> None:
    agents = content["datasets"]["agents"]
    agents.update(source="swebench", params=params, trace_dir=trace_dir)
    dataset = load_config(content).datasets["agents"]
    assert dataset.stand_in is stand_in
    assert dataset.files_needed == (("swebench",) if stand_in else ())


@pytest.fixture
def timed(content: dict[str, Any]) -> dict[str, Any]:
    """The configuration with one data set more, which has recorded times."""
    content["datasets"]["service"] = {
        "source": "mooncake",
        "params": {"trace": "synthetic"},
        "sessions": 5,
        "arrivals": {"kind": "recorded"},
        "capacities_bytes": [1e12],
    }
    return content


def test_a_timed_trace_arrives_as_recorded(timed: dict[str, Any]) -> None:
    config = load_config(timed)
    [spec] = config.traces(["service"])
    assert spec == ("service_recorded_nums=5", "service", RecordedArrivals())
    found = labels(config, spec.name)
    assert (found["dataset"], found["trace"], found["sessions"]) == ("service", spec.name, 5)
    assert all(np.isnan(found[name]) for name in ("sps", "art", "seed"))


def test_labels_of_a_timed_trace_say_that_tokens_are_made_up(timed: dict[str, Any]) -> None:
    config = load_config(timed)
    [role] = config.roles(["service"])
    assert role.label == "service (made-up tokens)"
    assert title(config, "service_recorded_nums=5") == "service_recorded_nums=5 (made-up tokens)"
    assert title(config, "chats_sps=1_nums=3") == "chats_sps=1_nums=3"
    timed["datasets"]["service"]["paper_dataset"] = "lmsys"
    [role] = load_config(timed).roles(["service"])
    assert role.label == "service (stand-in for LMSys; made-up tokens)"


@pytest.mark.parametrize(
    ("params", "files"),
    [
        ({}, ("mooncake_conversation",)),
        ({"trace": "synthetic"}, ("mooncake_synthetic",)),
        ({"path": "toolagent.jsonl"}, ()),
    ],
)
def test_files_of_a_timed_trace(
    timed: dict[str, Any], params: dict[str, str], files: tuple[str, ...]
) -> None:
    timed["datasets"]["service"]["params"] = params
    assert load_config(timed).datasets["service"].files_needed == files


def test_recorded_arrivals_need_a_timed_source_or_ready_traces(content: dict[str, Any]) -> None:
    chats = content["datasets"]["chats"]
    chats["arrivals"] = {"kind": "recorded"}
    assert "`synthetic` has no recorded times; choose `typing` or" in message(content)
    assert "(with times: mooncake)" in message(content)
    chats["trace_dir"] = "folder"
    assert load_config(content).traces(["chats"])[0].name == "chats_recorded_nums=3"


def test_misspelt_key_is_named_with_the_nearest_one(content: dict[str, Any]) -> None:
    content["datasets"]["chats"]["capacites_bytes"] = [1]
    found = message(content)
    assert "datasets.chats.capacites_bytes: unknown key; did you mean `capacities_bytes`?" in found


def test_misspelt_key_in_a_variant_is_answered_with_all_variants(content: dict[str, Any]) -> None:
    content["datasets"]["chats"]["arrivals"]["mean_responsetime"] = [1]
    found = message(content)
    assert "datasets.chats.arrivals.mean_responsetime: unknown key" in found
    assert "did you mean `mean_response_time`?" in found


def test_missing_key_says_what_to_write(content: dict[str, Any]) -> None:
    del content["datasets"]["chats"]["sessions"]
    assert "datasets.chats.sessions: missing; write for example `sessions: 100`" in message(content)


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("capacities_bytes", [5e8, 500000000], "500000000.0 is given twice"),
        ("arrivals", {"kind": "typing", "sessions_per_second": [1, 1.0]}, "1.0 is given twice"),
        (
            "arrivals",
            {
                "kind": "poisson",
                "sessions_per_second": [1],
                "mean_response_time": [5],
                "seed": 2**32,
            },
            "seed: should be less than 4294967296",
        ),
    ],
)
def test_what_no_simulation_could_do_is_refused(
    key: str, value: Any, expected: str, content: dict[str, Any]
) -> None:
    content["datasets"]["chats"][key] = value
    assert expected in message(content)


def test_alphas_and_folders_are_checked(content: dict[str, Any]) -> None:
    assert "alphas: 0 is missing" in message({**content, "alphas": [0.5, 1]})
    assert "results_dir: " in message({**content, "results_dir": ""})
    assert load_config({**content, "results_dir": "results/mine/"}).results_dir == "results/mine"


@pytest.mark.parametrize(
    "change",
    [
        {"model": "nemotron_h_8b"},
        {"alphas": [0, 1]},
        {"datasets": {"sharegpt": {"sessions": 3}}},
        {"datasets": {"sharegpt": {"capacities_bytes": [1e9]}}},
        {"datasets": {"sharegpt": {"params": {"max_tokens": 512}}}},
    ],
)
def test_other_configurations_than_the_papers_are_told_apart(change: dict[str, Any]) -> None:
    path = Path(__file__).parents[2] / "workflow/config/default.yaml"
    default = yaml.safe_load(path.read_text(encoding="utf-8"))
    roles = {role.dataset: role for role in load_config(default).roles(["sharegpt"])}
    assert roles["sharegpt"].papers_grid
    del default["live"], default["server"]
    for key, value in change.items():
        if key == "datasets":
            default["datasets"]["sharegpt"] |= value["sharegpt"]
        else:
            default[key] = value
    [role] = load_config(default).roles(["sharegpt"])
    assert not role.papers_grid and not role.stand_in


def test_own_files_are_known(content: dict[str, Any], tmp_path: Path) -> None:
    """So that a change of one of them is seen."""
    for name in ("b.json", "a.json"):
        (tmp_path / name).touch()
    for path, files in ((tmp_path, ["a.json", "b.json"]), (tmp_path / "a.json", ["a.json"])):
        content["datasets"]["chats"] |= {"source": "mooncake", "params": {"path": str(path)}}
        found = load_config(content).datasets["chats"].own_files
        assert found == [str(tmp_path / file) for file in files]


def test_missing_kind_says_what_to_write(content: dict[str, Any]) -> None:
    del content["datasets"]["chats"]["arrivals"]["kind"]
    assert 'write for example `arrivals: {"kind": "typing"' in message(content)


def test_every_mistake_has_its_line(content: dict[str, Any]) -> None:
    content["polices"] = ["marconi"]
    content["datasets"]["chats"]["arrivals"]["kind"] = "typng"
    content["datasets"]["agents"]["sessions"] = 0
    content["datasets"]["agents"]["arrivals"] = {"kind": "recorded", "seed": 1}
    lines = message(content).splitlines()
    assert len(lines) == 4
    assert "arrivals.kind: 'typng' is unknown; write one of `recorded`, `typing`, `poisson`" in (
        " ".join(lines)
    )
    assert "datasets.agents.arrivals.seed: unknown key" in " ".join(lines)
    assert all(line.startswith("configuration: ") for line in lines)


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("policies", ["vllm_plus", "sglang_plus", "marcony"], "did you mean `marconi`?"),
        ("policies", ["marconi"], "add vllm_plus, sglang_plus"),
        ("model", "paper_8b", "paper_7b"),
        ("alphas", [-1], "alphas.0: should be greater than or equal to 0, got -1"),
        ("datasets", {}, "datasets: "),
        ("datasets", {"Bad-Name": None}, "datasets.Bad-Name"),
        ("datasets", None, "`key: value` lines"),
    ],
)
def test_wrong_values(content: dict[str, Any], key: str, value: object, expected: str) -> None:
    assert expected in message(content | {key: value})


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("source", "sintetic", "did you mean `synthetic`?"),
        ("params", {"sed": 1}, "'sed'"),
        ("params", {"sessions": 1}, "one level up"),
        ("capacities_bytes", "much", "should be a valid list, got 'much'"),
        ("capacities_bytes", [0], "capacities_bytes.0: should be greater than 0"),
        ("paper_dataset", "swe", "'lmsys', 'sharegpt' or 'swebench'"),
    ],
)
def test_wrong_dataset_values(
    content: dict[str, Any], key: str, value: object, expected: str
) -> None:
    content["datasets"]["chats"][key] = value
    found = message(content)
    assert "datasets.chats" in found
    assert expected in found


def test_file_errors_name_the_file(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    with pytest.raises(ConfigError, match=r"study\.yaml: cannot read"):
        load_config(path)
    path.write_text("datasets: [", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"study\.yaml: not valid YAML"):
        load_config(path)
    path.write_text("- a list", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"study\.yaml: expected"):
        load_config(path)
    path.write_text("dataset: {}", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"study\.yaml: datasets: missing"):
        load_config(path)


def test_yaml_round_trip(content: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    config = load_config(path)
    assert Config.model_validate_json(config.model_dump_json()) == config


def test_translated_texts_only_stand_in_for_the_papers(content: dict[str, Any]) -> None:
    chats = content["datasets"]["chats"] | {"source": "sharegpt", "paper_dataset": "sharegpt"}
    content["datasets"]["chats"] = chats
    assert not load_config(content).roles(["chats"])[0].stand_in
    chats["vocabulary"] = "tekken"
    assert load_config(content).roles(["chats"])[0].stand_in


@pytest.mark.parametrize(
    ("changes", "answer"),
    [
        ({"vocabulary": "tekken"}, "source `synthetic` makes token ids; only texts"),
        ({"vocabulary": "tekken", "trace_dir": "archive"}, "trace_dir has token ids; only texts"),
        ({"vocabulary": "teken", "source": "sharegpt"}, "teken is no file; name a tokenizer.json"),
    ],
)
def test_what_cannot_be_translated_is_refused(
    content: dict[str, Any], changes: dict[str, Any], answer: str
) -> None:
    content["datasets"]["chats"] |= changes
    assert f"datasets.chats: vocabulary: {answer}" in message(content)


def test_a_server_gets_no_trace_that_is_translated_already(content: dict[str, Any]) -> None:
    content["datasets"]["chats"] |= {"source": "sharegpt", "vocabulary": "tekken"}
    content["live"] = {"traces": ["chats_sps=1_nums=3"], "replay": {"concurrency": 1}}
    assert "live.traces: chats_sps=1_nums=3 is in another `vocabulary` already" in message(content)
