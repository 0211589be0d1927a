"""Hooks the plug-in into SGLang (entry point of the group ``sglang.srt.plugins``).

SGLang loads plug-ins in each of its processes and only logs what goes wrong with them. So the last
part to be made, the cache, checks that all hooks are in place; without them the server ends.
"""

import argparse
from collections.abc import Callable
from typing import Any

from marconi_core.errors import MarconiError
from marconi_core.policies.two_pool import warm_up
from marconi_core.sim.server.settings import MarconiSettings, add_arguments
from marconi_sglang.checks import check_arguments, check_model, check_version
from marconi_sglang.errors import HookError, UnsupportedSetting

BACKEND = "marconi"
NEVER = 1 << 30
"""A track interval that no sequence reaches."""

SERVER_ARGS = "sglang.srt.server_args.ServerArgs"
PREFILL_ADDER = "sglang.srt.managers.schedule_policy.PrefillAdder"
SCHEDULE_BATCH = "sglang.srt.managers.schedule_batch.ScheduleBatch"
SCHEDULER = "sglang.srt.managers.scheduler.Scheduler"
PREFILL_GRAPHS = "sglang.srt.model_executor.runner.prefill_cuda_graph_runner.PrefillCudaGraphRunner"
CONFIGURATOR = "sglang.srt.mem_cache.kv_cache_configurator.KVCacheConfigurator"
COLLECTOR = "sglang.srt.observability.metrics_collector.SchedulerMetricsCollector"


def register() -> None:
    """Register options, cache and hooks with SGLang; called by its plug-in loader.

    With another release of SGLang only the options are registered, so that it can say why it does
    not start with them.
    """
    from sglang.srt.plugins.hook_registry import HookRegistry, HookType

    HookRegistry.register(f"{SERVER_ARGS}.add_cli_args", _add_options, HookType.AFTER)
    HookRegistry.register(f"{SERVER_ARGS}.from_cli_args", _from_cli_args, HookType.AROUND)
    try:
        check_version()
    except UnsupportedSetting:
        return
    from sglang.srt.mem_cache.registry import (
        register_radix_cache_backend,
        registered_radix_cache_backends,
    )

    for target, (kind, hook) in hooks().items():
        HookRegistry.register(target, hook, kind)
    if BACKEND not in registered_radix_cache_backends():
        register_radix_cache_backend(BACKEND, make_cache)


def hooks() -> dict[str, tuple[Any, Callable[..., Any]]]:
    """Return the hooks into the server's workings: target, kind, function."""
    from sglang.srt.plugins.hook_registry import HookType

    from marconi_sglang import prefill

    track = f"{SCHEDULE_BATCH}._mamba_radix_cache_v2_req_prepare_for_extend"
    return {
        f"{PREFILL_ADDER}.add_one_req": (HookType.AROUND, prefill.add_one_req),
        f"{PREFILL_ADDER}.add_chunked_req": (HookType.AROUND, prefill.add_chunked_req),
        track: (HookType.AROUND, _track_nothing),
        f"{SCHEDULE_BATCH}.prepare_for_extend": (HookType.AFTER, _ask_for_no_tracks),
        f"{PREFILL_GRAPHS}._is_mamba_track_enabled": (HookType.AROUND, _graphs_track),
        f"{CONFIGURATOR}._calculate_mamba_ratio": (HookType.AROUND, _states_per_request),
        f"{SCHEDULER}.__init__": (HookType.AFTER, _attach),
        f"{SCHEDULER}.run_batch": (HookType.AFTER, _copy_prompt_states),
        f"{SCHEDULER}.get_internal_state": (HookType.AFTER, _add_state),
        f"{COLLECTOR}.log_stats": (HookType.AFTER, _publish),
    }


def check_hooks() -> None:
    """Check that SGLang took all hooks.

    Raises:
        HookError: it did not.
    """
    from sglang.srt.plugins.hook_registry import HookRegistry

    missing = sorted(set(hooks()) - HookRegistry._patched)
    if missing:
        raise HookError(
            f"--enable-marconi: SGLang did not take the hook of {', '.join(missing)}; the log says "
            "why above (look for 'Failed to apply hooks'). Another plug-in may be in the way: set "
            "SGLANG_PLUGINS=marconi"
        )


def make_cache(context: Any) -> Any:
    """Build the cache (`--radix-cache-backend marconi`).

    Raises:
        UnsupportedSetting, HookError, ModelError: the server cannot run with Marconi; why.
    """
    from marconi_sglang.cache import MarconiRadixCache
    from marconi_sglang.model import model_costs

    given = getattr(context.server_args, "marconi", None)
    if given is None:
        raise UnsupportedSetting(
            f"--radix-cache-backend {BACKEND} is not for use on its own; start with --enable-marconi"
        )
    check_version()
    check_hooks()
    check_arguments(context.server_args)
    check_model(context.is_hybrid_ssm, context.is_hybrid_swa, context.model_config.model_path)
    settings = MarconiSettings.from_dict(given)
    costs = None
    if not settings.admission_only:
        costs = model_costs(context)
        warm_up()
    concurrent = context.server_args.max_running_requests != 1
    chunk = context.effective_chunked_prefill_size
    return MarconiRadixCache(context.params, settings, costs, concurrent, chunk)


def _add_options(result: Any, parser: argparse.ArgumentParser) -> None:
    add_arguments(parser)


def _from_cli_args(original: Callable[..., Any], cls: type, arguments: argparse.Namespace) -> Any:
    """Make SGLang's arguments from the command line's; ends with one line on a mistake."""
    if not arguments.enable_marconi:
        return original(cls, arguments)
    try:
        check_version()
        check_arguments(arguments)
        settings = MarconiSettings.from_namespace(arguments)
    except MarconiError as error:
        raise SystemExit(str(error)) from None
    arguments.radix_cache_backend = BACKEND
    arguments.page_size = 1
    arguments.mamba_track_interval = NEVER
    server_args = original(cls, arguments)
    server_args.marconi = settings.to_dict()  # goes to the other processes with the rest
    return server_args


def _states_per_request(original: Callable[..., Any], configurator: Any) -> int:
    """Return the state slots that there must be for each request that may run at a time.

    Stock SGLang counts three, and two more for track buffers, which requests do not have here: so the
    same pool lets 1.7 times as many run.
    """
    from sglang.srt.mem_cache import kv_cache_configurator

    if getattr(configurator.server_args, "marconi", None) is None:
        return int(original(configurator))
    return kv_cache_configurator.MAMBA_CACHE_SIZE_MAX_RUNNING_REQUESTS_RATIO


def _track_nothing(original: Callable[..., Any], batch: Any, req: Any) -> Any:
    """Tell the model to copy no state of this prompt into track buffers."""
    from sglang.srt.managers.schedule_batch import _MambaRadixCacheV2TrackEntry

    from marconi_sglang.cache import MarconiRadixCache

    if isinstance(batch.tree_cache, MarconiRadixCache):
        return _MambaRadixCacheV2TrackEntry(track_mask=False, track_index=0, track_seqlen=-1)
    return original(batch, req)


def _ask_for_no_tracks(result: Any, batch: Any, *_: Any, **__: Any) -> None:
    """Leave a prefill without the tensors that say which states to track, instead of with empty ones.

    Given a mask, each layer asks the GPU whether anything in it is set, and waits for the answer.
    """
    from marconi_sglang.cache import MarconiRadixCache

    if isinstance(batch.tree_cache, MarconiRadixCache):
        batch.mamba_track_mask = batch.mamba_track_indices = batch.mamba_track_seqlens = None


def _graphs_track(original: Callable[..., Any], runner: Any) -> bool:
    """Say whether prefill graphs get tensors of what to track; as in `_ask_for_no_tracks`."""
    if getattr(runner.model_runner.server_args, "marconi", None) is None:
        return bool(original(runner))
    return False


def _attach(result: Any, scheduler: Any, *_: Any, **__: Any) -> None:
    """Connect a new scheduler and its cache."""
    from marconi_sglang.cache import MarconiRadixCache
    from marconi_sglang.metrics import publish_together

    cache = scheduler.tree_cache
    if not isinstance(cache, MarconiRadixCache):
        return
    if scheduler.enable_overlap:
        _order_copies(scheduler, cache)
    if (collector := scheduler.metrics_collector) is not None:
        publish_together(cache, collector)


def _order_copies(scheduler: Any, cache: Any) -> None:
    """Have copies of states run on the stream that runs the model, in order with it."""
    stream = scheduler.forward_stream

    def enqueue(work: Callable[[], None], *read: Any) -> None:
        stream.wait_stream(scheduler.schedule_stream)
        with scheduler.device_module.stream(stream):
            work()
        for tensor in read:  # not to be reused before the stream is past the work
            tensor.record_stream(stream)

    cache.enqueue = enqueue


def _publish(result: Any, collector: Any, *_: Any) -> None:
    """Publish the cache's metrics together with the scheduler's."""
    if (publish := getattr(collector, "publish_marconi", None)) is not None:
        publish()


def _copy_prompt_states(result: Any, scheduler: Any, batch: Any, *_: Any, **__: Any) -> None:
    """Queue copies of the states at the ends of prompts, behind the prefill just launched."""
    from marconi_sglang.cache import MarconiRadixCache

    cache = scheduler.tree_cache
    if isinstance(cache, MarconiRadixCache) and batch.forward_mode.is_extend():
        cache.prefill_launched([req for req in batch.reqs if req is not batch.chunked_req])


def _add_state(result: Any, scheduler: Any, *_: Any) -> Any:
    """Add the cache's state to what /server_info shows."""
    from marconi_sglang.cache import MarconiRadixCache

    if isinstance(scheduler.tree_cache, MarconiRadixCache):
        result.internal_state["marconi"] = scheduler.tree_cache.marconi_state()
    return result
