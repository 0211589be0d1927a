"""What the workflow would do, without doing it."""

import json
import shutil
from pathlib import Path

import pytest
import yaml
from snakemake.exceptions import WorkflowError

from marconi_core.assets import resource
from marconi_core.serving.recordings import recorded_files

from .conftest import Run, parsed_rules


def test_default_configuration_starts_with_the_optional_datasets(run: Run) -> None:
    planned = run()
    assert planned["availability"] == 1
    assert planned["fetch"] == 2  # ShareGPT and the vocabulary
    assert planned["all"] == 1


def test_a_configfile_replaces_the_default_one(run: Run) -> None:
    planned = run(config="smoke")
    assert planned["simulate"] == 4
    assert planned["fetch"] == planned["availability"] == 0


def test_papers_configuration_is_planned(run: Run) -> None:
    assert run(config="paper")["availability"] == 1


def test_the_live_comparisons_are_planned(run: Run, checkout: Path) -> None:
    live = {"server": "sglang", "site": "site"}
    for config, optional, traces in (("headline", "swebench", 1), ("chats", "tau_airline", 2)):
        answer = checkout / f"results/{config}/availability.json"
        answer.parent.mkdir(parents=True)
        answer.write_text(json.dumps({optional: ""}), encoding="utf-8")
        planned = run("live", config=config, live=live)
        assert planned["replay"] == planned["check_server"] == 6 - traces
        assert planned["retokenize_trace"] == traces and planned["measure_ttft"] == 2
        assert planned["measure_parity"] == 0
    answer = checkout / "results/headline/availability.json"
    answer.write_text('{"swebench": "no such file"}', encoding="utf-8")
    with pytest.raises(WorkflowError) as caught:  # before any GPU hour
        run("live", config="headline", live=live)
    assert "none of these traces can be had" in str(caught.value)


def test_available_and_missing_datasets_take_part_and_are_left_out(
    run: Run, checkout: Path
) -> None:
    path = checkout / "workflow/config/smoke.yaml"
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    content["datasets"]["tiny_chats"]["optional"] = True
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    assert run("availability", config="smoke", execute=True)["availability"] == 1
    assert run(config="smoke")["simulate"] == 4

    answer = checkout / "results/smoke/availability.json"
    answer.write_text('{"tiny_chats": "no network"}', encoding="utf-8")
    planned = run(config="smoke")
    assert planned["simulate"] == 2
    assert planned["fig9_panel"] == 1
    assert planned["replay"] == 0
    for target in ("live", "forecast", "text_replay"):
        with pytest.raises(WorkflowError) as caught:
            run(target, config="smoke")
        said = str(caught.value)
        assert "live.traces: none of these traces can be had" in said
        assert "(tiny_chats: no network); name a trace of another data set" in said


@pytest.mark.parametrize(
    ("target", "rules"),
    [
        ("compile", {"compile": 1, "compile_dataset": 2}),
        ("traces", {"traces": 1, "compile_dataset": 2, "write_trace": 4}),
        ("describe", {"describe": 1, "compile_dataset": 2, "describe_trace": 2}),
        ("sim", {"sim": 1, "compile_dataset": 2, "simulate": 4}),
        ("fig7", {"fig7": 1, "compile_dataset": 2, "simulate": 4}),
        ("fig8", {"fig8": 1, "compile_dataset": 2, "simulate": 4}),
        ("fig9", {"fig9": 1, "fig9_panel": 2, "compile_dataset": 2, "simulate": 4}),
        ("fig9b", {"fig9b": 1, "fig9_panel": 1, "compile_dataset": 1, "simulate": 2}),
        ("fig3b", {"fig3b": 1}),
        ("fig5", {"fig5": 1}),
        ("fig14", {"fig14": 1}),
        ("table1", {"table1": 1}),
        ("fig6", {"fig6": 1, "experiment": 2, "compile_dataset": 2}),
        ("fig10", {"fig10": 1, "experiment": 1, "compile_dataset": 1}),
        ("fig11", {"fig11": 1, "experiment": 1, "compile_dataset": 1}),
        ("ablation", {"ablation": 1, "experiment": 2, "compile_dataset": 2}),
        ("regret", {"regret": 1, "experiment": 2, "compile_dataset": 2}),
        ("geometry", {"geometry": 1, "experiment": 2, "compile_dataset": 2}),
        ("policies", {"policies": 1, "compile_dataset": 2, "simulate": 4}),
        ("alpha", {"alpha": 1, "compile_dataset": 2, "simulate": 4}),
        ("claims", {"claims": 1, "compile_dataset": 2, "simulate": 4, "experiment": 8}),
        ("server_sim", {"server_sim": 1, "simulate_server": 1, "compile_dataset": 1}),
        ("smoke", {"smoke": 1}),
        ("smoke_live", {"smoke_live": 1, "check_server": 2}),
        (
            "forecast",
            {"forecast": 1, "forecast_replays": 2, "compile_dataset": 1, "retokenize_trace": 1},
        ),
        (
            "live",
            {
                "live": 1,
                "live_page": 1,
                "live_replays": 1,
                "live_ttft": 1,
                "smoke_live": 1,
                "compile_dataset": 1,
                "retokenize_trace": 1,
                "replay": 2,
                "predict": 1,
                "check_server": 2,
                "measure_ttft": 1,
                "measure_parity": 1,
            },
        ),
    ],
)
def test_named_targets(run: Run, target: str, rules: dict[str, int]) -> None:
    assert run(target, config="smoke") == rules


def test_a_server_is_built_for_each_release(run: Run, checkout: Path, repository: Path) -> None:
    shutil.copytree(repository / "sglang_patch", checkout / "sglang_patch")
    shutil.copy(repository / "pyproject.toml", checkout)
    assert run("build_server", config="smoke") == {"build_server": 1, "server_wheels": 2}


def test_without_a_gpu_live_results_come_from_the_repository(run: Run) -> None:
    planned = run("live", live={"server": "recorded"})
    assert planned == {
        "live": 1,
        "live_page": 1,
        "live_replays": 1,
        "live_ttft": 1,
        "smoke_live": 1,
    }


@pytest.mark.parametrize("rule", ["live_replays", "predict", "forecast_replays"])
def test_recorded_files_that_decide_a_result_are_inputs(rule: str, checkout: Path) -> None:
    with parsed_rules(checkout, live={"server": "recorded"}) as rules:
        inputs = [file for file in rules[rule].input if isinstance(file, str)]
    if rule == "live_replays":
        used = list(resource("recorded").glob("*-replay/predicted.csv"))
    else:
        used = recorded_files("ttft")
    assert used and {str(path) for path in used} <= set(inputs)


def test_only_servers_of_the_configuration_are_shown(checkout: Path) -> None:
    """Replays of another configuration may lie beside theirs."""
    live = {"server": "simulated", "variants": ["no_buffer", "marconi@0.5"], "states": [60]}
    with parsed_rules(checkout, live=live) as rules:
        for rule in ("predict", "live_replays", "live_page"):
            folders = dict(rules[rule].params.items())["folders"]
            names = [Path(folder).name for folder in folders]
            assert names == ["no_buffer_states=60", "marconi@0.5_states=60"], rule


def test_files_of_models_are_inputs(checkout: Path) -> None:
    file = str(resource("models/nemotron_h_8b.json"))
    with parsed_rules(checkout, model=file, live={"model": file}) as rules:
        for rule in ("simulate", "simulate_server", "predict", "forecast_replays"):
            assert file in rules[rule].input, rule


def test_another_model_is_simulated_again(run: Run, checkout: Path) -> None:
    model = checkout / "mine.json"
    numbers = {"num_ssm_layers": 24, "num_attn_layers": 4, "num_mlp_layers": 28, "d": 64, "n": 16}
    model.write_text(json.dumps(numbers), encoding="utf-8")
    assert run("sim", config="smoke", execute=True, model=str(model))["simulate"] == 4
    assert run("sim", config="smoke", model=str(model))["simulate"] == 0
    model.write_text(json.dumps(numbers | {"n": 128}), encoding="utf-8")
    assert run("sim", config="smoke", model=str(model))["simulate"] == 4


def test_with_a_gpu_everything_live_is_measured_once_per_server(run: Run) -> None:
    planned = run("live", config="smoke", live={"server": "sglang", "states": [16, 32]})
    assert planned["replay"] == 4
    assert planned["measure_parity"] == planned["measure_ttft"] == 1
    assert "live" not in run(config="smoke", live={"server": "sglang"}), "hours are asked for"


def test_live_traces_are_translated_with_a_stand_in_unless_a_tokenizer_is_given(
    run: Run, checkout: Path
) -> None:
    ready_chats(checkout)
    planned = run(
        "text_replay", config="smoke", live={"server": "simulated", "tokenizer": "tekken"}
    )
    assert planned["tekken"] == planned["tokenizer"] == planned["text_replay_trace"] == 1
    (checkout / "own.json").touch()
    planned = run("live", config="smoke", live={"tokenizer": "own.json"})
    assert planned["retokenize_trace"] == 1 and "tekken" not in planned


def ready_chats(checkout: Path) -> None:
    """Give `tiny_chats` ready traces, which may be of texts."""
    path = checkout / "workflow/config/smoke.yaml"
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    content["datasets"]["tiny_chats"]["trace_dir"] = "archive"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    (checkout / "archive").mkdir()
    for rate in (1, 2):
        (checkout / f"archive/tiny_chats_sps={rate}_nums=20.jsonl").touch()


def test_ready_traces_replace_the_source(run: Run, checkout: Path) -> None:
    ready_chats(checkout)
    planned = run("compile", config="smoke")
    assert planned == {"compile": 1, "compile_dataset": 1, "read_trace": 2}


def test_a_data_set_in_another_vocabulary_is_compiled_from_both_tokenizers(
    run: Run, checkout: Path
) -> None:
    path = checkout / "workflow/config/retokenized.yaml"
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    content["datasets"] = {"sharegpt_tekken": content["datasets"]["sharegpt_tekken"]}
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    planned = run("geometry", config="retokenized")
    assert planned["tekken"] == planned["tokenizer"] == planned["compile_dataset"] == 1
    assert planned["fetch"] == 3  # ShareGPT and two vocabularies


def test_a_misspelt_key_stops_everything_with_one_message(run: Run) -> None:
    with pytest.raises(WorkflowError) as caught:
        run(config="smoke", polices=["marconi"])
    assert "polices: unknown key; did you mean `policies`?" in str(caught.value)
