"""What the patches change in the server: options, choice of the cache, pool size, statistics."""

import argparse
import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from marconi_sglang.errors import UnsupportedSetting
from sglang.srt.managers import scheduler as scheduler_module
from sglang.srt.managers.scheduler import Scheduler
from sglang.srt.marconi.cache import BranchPointCache, MarconiCache
from sglang.srt.mem_cache.mamba_radix_cache import MambaRadixCache
from sglang.srt.model_executor.model_runner import ModelRunner
from sglang.srt.server_args import ServerArgs, set_global_server_args_for_scheduler

from marconi_core.assets import resource
from marconi_core.errors import MarconiError, ModelError
from marconi_core.sim.server.settings import MarconiSettings
from tests.patch_v0_5_6.cpu_server import Setup, cache_params


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model's folder, with nothing but its config."""
    shutil.copy(resource("models") / "nemotron_h_8b.json", tmp_path / "config.json")
    return tmp_path


def parse(*options: str) -> ServerArgs:
    """Make the server's arguments as its command line does."""
    parser = argparse.ArgumentParser()
    ServerArgs.add_cli_args(parser)
    given = ["--model-path", "none", "--disable-overlap-schedule", *options]
    return ServerArgs.from_cli_args(parser.parse_args(given))


def build_cache(arguments: ServerArgs, model: Path, **changes: Any) -> Any:
    """Let the scheduler build its cache."""
    params = cache_params(Setup(400, 12))
    scheduler = SimpleNamespace(
        server_args=arguments,
        tp_worker=SimpleNamespace(
            get_memory_pool=lambda: (params.req_to_token_pool, params.token_to_kv_pool_allocator)
        ),
        page_size=1,
        spec_algorithm=SimpleNamespace(is_eagle=lambda: False, is_none=lambda: True),
        tp_cpu_group=None,
        enable_metrics=False,
        enable_kv_cache_events=False,
        enable_hierarchical_cache=False,
        is_hybrid_swa=False,
        is_ssm_model=True,
        model_config=SimpleNamespace(model_path=str(model), hf_config=None),
    )
    vars(scheduler).update(changes)
    Scheduler.init_cache_with_memory_pool(scheduler)
    return scheduler.tree_cache


def test_options_reach_the_settings() -> None:
    arguments = parse(
        *"--enable-marconi --marconi-eff-weight 0.7 --marconi-bootstrap-window-size 90".split(),
        *"--marconi-tuner window --marconi-bootstrap-multiplier 3".split(),
        *"--marconi-tuning-interval 200".split(),
        *"--marconi-eviction-policy seglen --marconi-admission-only --marconi-lambda 0.25".split(),
        *"--marconi-branch-gain 64".split(),
    )
    assert arguments.enable_marconi
    assert MarconiSettings.from_namespace(arguments) == MarconiSettings(
        0.7, "window", 90, 3, 200, "seglen", True, 0.25, 64
    )


def test_defaults_are_those_of_the_settings() -> None:
    assert not parse().enable_marconi
    for arguments in (parse(), ServerArgs(model_path="none")):
        assert MarconiSettings.from_namespace(arguments) == MarconiSettings()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--disable-radix-cache", "no prefix cache"),
        ("--tp-size 2", "use --tp-size 1"),
        ("--page-size 16", "use --page-size 1"),
        ("--enable-hierarchical-cache", "leave --enable-hierarchical-cache out"),
        ("--speculative-algorithm NGRAM", "leave --speculative-algorithm out"),
        ("--enable-mixed-chunk", "--enable-mixed-chunk is not supported"),
        ("--enable-pdmux", "--enable-pdmux is not supported"),
        ("--radix-eviction-policy lfu", "leave --radix-eviction-policy out"),
        ("--marconi-eff-weight -1", "alpha is -1.0"),
        ("--marconi-lambda 2", "lambda is 2.0"),
        ("--marconi-tuning-interval 0", "--marconi-tuning-interval is 0"),
    ],
)
def test_what_is_not_supported_ends_with_one_line(options: str, message: str) -> None:
    with pytest.raises(SystemExit, match=message):
        parse("--enable-marconi", *options.split())


def test_a_server_started_from_python_is_checked_too() -> None:
    arguments = ServerArgs(model_path="none", enable_marconi=True)
    with pytest.raises(MarconiError, match="--disable-overlap-schedule"):
        arguments.check_server_args()


def test_the_scheduler_picks_the_cache(model: Path) -> None:
    assert type(build_cache(parse(), model)) is MambaRadixCache
    cache = build_cache(parse("--enable-marconi", "--marconi-eff-weight", "0.5"), model)
    assert type(cache) is MarconiCache and cache.two_pool.settings.alpha == 0.5
    only = build_cache(parse("--enable-marconi", "--marconi-admission-only"), model)
    assert type(only) is BranchPointCache


def test_models_that_are_not_supported_are_refused(model: Path) -> None:
    arguments = parse("--enable-marconi")
    with pytest.raises(UnsupportedSetting, match="has no SSM or linear-attention layers"):
        build_cache(arguments, model, is_ssm_model=False)
    (model / "config.json").write_text('{"model_type": "unheard-of"}')
    with pytest.raises(ModelError, match="unheard-of"):
        build_cache(arguments, model)


def test_the_state_pool_has_the_size_asked_for() -> None:
    def size(draft: bool = False, **given: Any) -> int:
        arguments = ServerArgs(model_path="none", **given)
        per_request = SimpleNamespace(mamba_cache_per_req=1 << 20)
        runner = SimpleNamespace(
            mambaish_config=SimpleNamespace(mamba2_cache_params=per_request),
            hybrid_gdn_config=None,
            server_args=arguments,
            is_draft_worker=draft,
        )
        rest = ModelRunner.handle_max_mamba_cache(runner, 2.0)
        assert rest == 2.0 - arguments.max_mamba_cache_size / 1024
        return arguments.max_mamba_cache_size

    by_ratio = size()
    assert by_ratio == int(2048 * 0.9 / 1.9)
    assert size(max_mamba_cache_size=100) == 100
    assert size(draft=True, max_mamba_cache_size=100) == by_ratio


def test_server_info_shows_the_statistics(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = parse("--enable-marconi")
    cache = build_cache(arguments, model)
    set_global_server_args_for_scheduler(arguments)
    monkeypatch.setattr(scheduler_module, "RECORD_STEP_TIME", False)
    scheduler = SimpleNamespace(
        server_args=arguments,
        tree_cache=cache,
        last_gen_throughput=0.0,
        tp_worker=SimpleNamespace(
            model_runner=SimpleNamespace(weight_load_mem_usage=0.0, graph_mem_usage=0.0)
        ),
        token_to_kv_pool_allocator=cache.token_to_kv_pool_allocator,
        max_total_num_tokens=400,
        spec_algorithm=SimpleNamespace(is_none=lambda: True),
    )
    shown = Scheduler.get_internal_state(scheduler, None).internal_state["marconi"]
    assert json.loads(json.dumps(shown)) == shown
    assert shown["alpha"] == 0.0 and shown["requests"] == 0 and shown["evictions"] == {}
