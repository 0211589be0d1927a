"""How the plug-in gets into SGLang: options, hooks, refusals, what the server shows."""

import argparse
import json
import pickle
import shutil
from importlib.metadata import entry_points
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from marconi_sglang import checks, plugin
from marconi_sglang.cache import MarconiRadixCache
from marconi_sglang.errors import HookError, UnsupportedSetting
from marconi_sglang.model import slot_bytes, token_bytes
from sglang.srt.managers import schedule_batch
from sglang.srt.mem_cache.kv_cache_configurator import KVCacheConfigurator
from sglang.srt.mem_cache.registry import create_tree_cache
from sglang.srt.model_executor.runner.prefill_cuda_graph_runner import PrefillCudaGraphRunner
from sglang.srt.plugins.hook_registry import HookRegistry
from sglang.srt.sampling.sampling_params import SamplingParams
from sglang.srt.server_args import ServerArgs
from sglang.srt.speculative.spec_info import SpeculativeAlgorithm

from marconi_core.assets import resource
from marconi_core.errors import MarconiError, ModelError
from marconi_core.models import load_hybrid_model
from marconi_core.serving.simulated.flags import command_line, running_requests
from marconi_core.sim.server.settings import MarconiSettings
from tests.patch.cpu_server import CpuServer, Setup, cache_params
from tests.patch.workloads import SETTINGS, server

MODEL = "nemotron_h_8b"
SETUP = Setup(400, 12)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model's folder, with nothing but its config."""
    shutil.copy(resource("models") / f"{MODEL}.json", tmp_path / "config.json")
    return tmp_path


def parse(*options: str) -> ServerArgs:
    """Make the server's arguments as its command line does."""
    parser = argparse.ArgumentParser()
    ServerArgs.add_cli_args(parser)
    return ServerArgs.from_cli_args(parser.parse_args(["--model-path", "none", *options]))


def context(arguments: ServerArgs, model: Path, **changes: Any) -> SimpleNamespace:
    """Return what SGLang gives to the factory of a cache."""
    given: dict[str, Any] = {
        "server_args": arguments,
        "params": cache_params(SETUP),
        "is_hybrid_ssm": True,
        "is_hybrid_swa": False,
        "enable_hierarchical_cache": False,
        "effective_chunked_prefill_size": None,
        "model_config": SimpleNamespace(model_path=str(model), hf_config=None),
    }
    return SimpleNamespace(**given | changes)


def test_sglang_finds_the_plugin_by_its_entry_point() -> None:
    (found,) = entry_points(group="sglang.srt.plugins", name="marconi")
    assert found.load() is plugin.register


def test_all_hooks_are_in_place() -> None:
    plugin.check_hooks()
    assert set(plugin.hooks()) <= HookRegistry._patched


def test_one_option_is_all_it_takes(model: Path) -> None:
    arguments = parse("--enable-marconi")
    assert arguments.radix_cache_backend == "marconi" and arguments.page_size == 1
    cache = create_tree_cache(context(arguments, model))
    assert isinstance(cache, MarconiRadixCache)
    assert cache.settings == MarconiSettings()
    server = CpuServer(cache, SETUP)
    assert [server.serve(range(20), [1, 2]), server.serve(range(30), [1])] == [0, 0]
    assert server.serve(range(15), [1]) == 0
    assert cache.statistics.requests == 3
    server.check()


def test_without_the_option_nothing_changes() -> None:
    arguments = parse()
    assert arguments.radix_cache_backend is None and not hasattr(arguments, "marconi")


def test_options_reach_the_scheduler_process() -> None:
    arguments = parse(
        *"--enable-marconi --marconi-eff-weight 0.7 --marconi-bootstrap-window-size 90".split(),
        *"--marconi-tuner window --marconi-bootstrap-multiplier 3".split(),
        *"--marconi-tuning-interval 200".split(),
        *"--marconi-eviction-policy seglen --marconi-admission-only --marconi-lambda 0.25".split(),
        *"--marconi-branch-gain 64".split(),
    )
    arrived = pickle.loads(pickle.dumps(arguments))
    assert MarconiSettings.from_dict(arrived.marconi) == MarconiSettings(
        0.7, "window", 90, 3, 200, "seglen", True, 0.25, 64
    )


REFUSED = (
    ("--disable-radix-cache", "no prefix cache"),
    ("--radix-cache-backend flexkv", "leave --radix-cache-backend out"),
    ("--tp-size 2", "use --tp-size 1"),
    ("--pp-size 2", "use --pp-size 1"),
    ("--attn-cp-size 2", "use --attn-cp-size 1"),
    ("--dcp-size 2", "use --dcp-size 1"),
    ("--enable-dp-attention", "--enable-dp-attention is not supported"),
    ("--page-size 16", "use --page-size 1"),
    ("--enable-hierarchical-cache", "leave --enable-hierarchical-cache out"),
    ("--enable-lmcache", "--enable-lmcache is not supported"),
    ("--enable-flexkv", "--enable-flexkv is not supported"),
    ("--speculative-algorithm NGRAM", "leave --speculative-algorithm out"),
    ("--disaggregation-mode prefill", "leave --disaggregation-mode out"),
    ("--enable-mixed-chunk", "--enable-mixed-chunk is not supported"),
    ("--enable-pdmux", "--enable-pdmux is not supported"),
    ("--strip-thinking-cache", "--strip-thinking-cache cuts KVs back"),
    ("--enable-streaming-session", "--enable-streaming-session is not supported"),
    ("--enable-unified-memory", "--enable-unified-memory is not supported"),
    ("--enable-linear-replayssm", "--enable-linear-replayssm is not supported"),
    ("--enable-int8-mamba-checkpoint", "--enable-int8-mamba-checkpoint is not supported"),
    ("--enable-deterministic-inference", "must end at branch points"),
    ("--dllm-algorithm LowConfidence", "diffusion models are not supported"),
    (
        "--mamba-radix-cache-strategy extra_buffer_lazy",
        "use --mamba-radix-cache-strategy extra",
    ),
    ("--radix-eviction-policy lfu", "leave --radix-eviction-policy out"),
)
"""Options that do not go together with --enable-marconi, and what is said."""


def test_every_refusal_is_tried() -> None:
    said = [message for _, message in REFUSED]
    untried = [r.reason for r in checks.REFUSALS if not any(m in r.reason for m in said)]
    assert untried == [] and len(REFUSED) == len(checks.REFUSALS)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        *REFUSED,
        ("--marconi-eff-weight -1", "alpha is -1.0"),
        ("--marconi-lambda 2", "lambda is 2.0; it must be between 0 and 1"),
        ("--marconi-branch-gain 0", "--marconi-branch-gain is 0; it must be at least 1"),
        ("--marconi-bootstrap-multiplier 0", "--marconi-bootstrap-multiplier is 0"),
        ("--marconi-tuning-interval 0", "--marconi-tuning-interval is 0"),
    ],
)
def test_what_is_not_supported_ends_with_one_line(options: str, message: str) -> None:
    with pytest.raises(SystemExit) as ended:
        parse("--enable-marconi", *options.split())
    assert message in str(ended.value) and "\n" not in str(ended.value)


def test_every_refused_argument_exists() -> None:
    """An argument that SGLang renames must not drop out of the checks unnoticed."""
    known = vars(ServerArgs(model_path="none"))
    touched: set[str] = set()

    class Recorder:
        def __getattr__(self, name: str) -> None:
            touched.add(name)

    for refusal in checks.REFUSALS:
        assert not refusal.applies(Recorder())
    assert touched <= set(known)


def test_what_sglang_decides_later_is_checked_too(model: Path) -> None:
    arguments = parse("--enable-marconi")
    object.__setattr__(arguments, "tp_size", 4)
    with pytest.raises(UnsupportedSetting, match="use --tp-size 1"):
        create_tree_cache(context(arguments, model))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"is_hybrid_ssm": False}, "has no SSM or linear-attention layers"),
        ({"is_hybrid_swa": True}, "has sliding-window layers"),
    ],
)
def test_other_kinds_of_models_are_refused(
    model: Path, changes: dict[str, bool], message: str
) -> None:
    with pytest.raises(UnsupportedSetting, match=message):
        create_tree_cache(context(parse("--enable-marconi"), model, **changes))


def test_an_unknown_family_is_named(model: Path) -> None:
    (model / "config.json").write_text(json.dumps({"model_type": "retnet"}))
    with pytest.raises(ModelError, match="model_type 'retnet' is not a known hybrid family"):
        create_tree_cache(context(parse("--enable-marconi"), model))


def test_a_broken_config_is_named(model: Path) -> None:
    (model / "config.json").write_text("{")
    with pytest.raises(ModelError, match=r"config\.json: not JSON"):
        create_tree_cache(context(parse("--enable-marconi"), model))


def test_the_backend_is_not_for_use_on_its_own(model: Path) -> None:
    with pytest.raises(UnsupportedSetting, match="start with --enable-marconi"):
        create_tree_cache(context(parse("--radix-cache-backend", "marconi"), model))


def test_another_release_of_sglang_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "version", lambda _: "0.5.23")
    with pytest.raises(SystemExit, match=r"for SGLang 0\.5\.16, and 0\.5\.23 is installed"):
        parse("--enable-marconi")


@pytest.mark.parametrize("hook", sorted(plugin.hooks()))
def test_a_hook_that_did_not_take_stops_the_server(
    hook: str, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(HookRegistry, "_patched", HookRegistry._patched - {hook})
    with pytest.raises(HookError, match=f"did not take the hook of {hook}"):
        create_tree_cache(context(parse("--enable-marconi"), model))


def test_a_mistake_is_one_of_ours() -> None:
    assert issubclass(UnsupportedSetting, MarconiError) and issubclass(HookError, MarconiError)


@pytest.mark.parametrize(("name", "tracks"), [("stock", True), ("alpha 1", False)])
def test_layers_are_not_asked_for_tracked_states(
    name: str, tracks: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SGLang's own code prepares a prefill; only its Triton kernel for memory is left out."""
    place = torch.zeros(1, dtype=torch.int64)
    monkeypatch.setattr(schedule_batch, "alloc_for_extend", lambda batch: (place, place, place))
    host = server(Setup(400, 24, strategy="extra_buffer", overlap=True), SETTINGS[name])
    request = host._request("a", list(range(40)), SamplingParams(max_new_tokens=2))
    request.mamba_ping_pong_track_buffer = torch.zeros(2, dtype=torch.int64)
    request.mamba_next_track_idx = 0
    request.init_next_round_input(host.cache)
    request.set_extend_range(0, 40)
    batch = schedule_batch.ScheduleBatch(
        reqs=[request],
        req_to_token_pool=host.requests,
        token_to_kv_pool_allocator=host.kvs,
        tree_cache=host.cache,
        model_config=SimpleNamespace(is_encoder_decoder=False, vocab_size=100),
        device="cpu",
    )
    batch.prepare_for_extend()
    for field in ("mamba_track_mask", "mamba_track_indices", "mamba_track_seqlens"):
        assert (getattr(batch, field) is not None) == tracks


@pytest.mark.parametrize(("options", "tracks"), [("", True), ("--enable-marconi", False)])
def test_nor_are_those_in_prefill_graphs(options: str, tracks: bool) -> None:
    """SGLang's own code decides whether a graph has the tensors that layers would ask."""
    runner = object.__new__(PrefillCudaGraphRunner)
    runner.model_runner = SimpleNamespace(
        server_args=parse("--mamba-radix-cache-strategy", "extra_buffer", *options.split()),
        spec_algorithm=SpeculativeAlgorithm.NONE,
    )
    assert runner._is_mamba_track_enabled() == tracks


@pytest.mark.parametrize(
    ("options", "slots"),
    [
        ("", 5),
        ("--enable-marconi", 3),
        ("--enable-marconi --mamba-radix-cache-strategy no_buffer --disable-overlap-schedule", 3),
        ("--disable-radix-cache", 1),
    ],
)
def test_slots_for_track_buffers_are_left_to_other_requests(options: str, slots: int) -> None:
    """SGLang's own code counts; the simulator counts the same."""
    arguments = parse("--mamba-radix-cache-strategy", "extra_buffer", *options.split())
    configurator = object.__new__(KVCacheConfigurator)
    configurator.server_args = arguments
    assert configurator._calculate_mamba_ratio() == slots
    simulated, _ = command_line().parse_known_args(["--model-path", "none", *options.split()])
    assert running_requests(simulated, 60) == 60 // slots


def test_sizes_are_those_of_the_pools(model: Path) -> None:
    params = cache_params(SETUP)
    # 3 recurrent layers: convolution (32 + 2 * 8) * 3 in 16 bits, state 2 * 16 * 8 in 32 bits
    assert slot_bytes(params.req_to_token_pool.mamba_pool) == 3 * (48 * 3 * 2 + 256 * 4)
    assert token_bytes(params.token_to_kv_pool_allocator.get_kvcache()) == 2 * 8 * 2
    cache = create_tree_cache(context(parse("--enable-marconi"), model))
    costs = cache.two_pool.costs
    assert costs.state_bytes == 3 * (48 * 3 * 2 + 256 * 4) and costs.kv_bytes_per_token == 32
    assert costs.flops(1000) == load_hybrid_model(MODEL).flops(1000)


def test_the_server_shows_what_the_cache_did(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = create_tree_cache(
        context(
            parse("--enable-marconi", "--marconi-eff-weight", "1", "--marconi-branch-gain", "1"),
            model,
        )
    )
    server = CpuServer(cache, SETUP)
    for prompt in ([*range(20)], [*range(15), 99], [*range(15), 98]):
        server.serve(prompt, [1, 2])
    shown = plugin._add_state(
        SimpleNamespace(internal_state={}), SimpleNamespace(tree_cache=cache)
    ).internal_state["marconi"]
    assert shown["requests"] == 3 and shown["input_tokens"] == 52 and shown["hit_tokens"] == 15
    assert shown["token_hit_rate"] == pytest.approx(15 / 52)
    assert shown["branch_states"] == 1 and shown["cached_states"] == 4 and shown["alpha"] == 1
    json.dumps(shown)
