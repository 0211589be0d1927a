"""Command line of live serving: ``python -m marconi_core.serving COMMAND --help``.

It runs from a checkout on a GPU node, where this package is not installed. `pack`, `unpack` and
`keep-kernels` need a bare Python only; the other commands need pydantic, which the bundle brings.
"""

import argparse
import json
import logging
import shlex
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from marconi_core.errors import MarconiError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return 0, 1 if a check failed, 2 after one message on standard error."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    try:
        return int(options.run(options) or 0)
    except MarconiError as error:
        print(f"marconi: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m marconi_core.serving", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    pack = commands.add_parser("pack", help="make a bundle for GPU nodes without network")
    pack.set_defaults(run=_pack)
    pack.add_argument("bundle", type=Path, help="folder to make")
    pack.add_argument("--sglang", default="0.5.16", metavar="VERSION")
    pack.add_argument("--wheels", type=Path, help="folder of wheels (default: BUNDLE/wheels)")
    pack.add_argument("--kernels", type=Path, help="archive made by keep-kernels")
    pack.add_argument("--plugin", type=Path, help="sglang_patch, for --enable-marconi")

    build = commands.add_parser("build", help="build the wheels of a server with Marconi")
    build.set_defaults(run=_build)
    build.add_argument("output", type=Path, metavar="FOLDER", help="wheels and manifest go here")
    build.add_argument("--sglang", default="0.5.16", metavar="VERSION")
    build.add_argument("--wheel", type=Path, help="SGLang's wheel (default: fetched with pip)")

    unpack = commands.add_parser("unpack", help="unpack a bundle on the GPU node")
    unpack.set_defaults(run=_unpack)
    unpack.add_argument("bundle", type=Path)
    unpack.add_argument("--site", type=Path, required=True, help="folder for packages")
    unpack.add_argument("--kernels", type=Path, help="folder for compiled kernels")

    keep = commands.add_parser("keep-kernels", help="pack the kernels that a server compiled")
    keep.set_defaults(run=_keep_kernels)
    keep.add_argument("archive", type=Path, help="file to write, .tar.xz")
    keep.add_argument("--kernels", type=Path, required=True, help="folder of compiled kernels")

    weights = commands.add_parser("random-weights", help="write a model whose states remember")
    weights.set_defaults(run=_random_weights)
    weights.add_argument("folder", type=Path, help="folder to make: 2 bytes a parameter")
    weights.add_argument(
        "--model", required=True, help="name in resources/models, or a config.json"
    )
    weights.add_argument("--seed", type=int, default=1)

    serve = commands.add_parser("serve", help="run a server until Ctrl-C")
    serve.set_defaults(run=_serve)
    serve.add_argument("--port", type=int, help="default: a free one")

    smoke = commands.add_parser("smoke", help="start a server, go through the checklist, stop it")
    smoke.set_defaults(run=_smoke)
    smoke.add_argument("--output", type=Path, required=True, metavar="FILE", help="a JSON file")

    ttft = commands.add_parser("ttft", help="time to first token against prompt length")
    ttft.set_defaults(run=_ttft)
    ttft.add_argument(
        "--output", type=Path, required=True, metavar="FOLDER", help="VARIANT.csv and .json go here"
    )
    ttft.add_argument("--rounds", type=int, help="measured repetitions of the grid")
    ttft.add_argument("--lengths", type=int, nargs="+", help="prompt lengths in tokens")
    ttft.add_argument(
        "--others", type=int, nargs="*", help="requests that decode meanwhile, on a busy server"
    )
    ttft.add_argument("--deadline", type=float, metavar="S", help="seconds for the requests")
    ttft.add_argument("--smoke", action="store_true", help="go through the checklist first")

    parity = commands.add_parser("parity", help="cached tokens, predicted and served")
    parity.set_defaults(run=_parity)
    parity.add_argument("--trace", type=Path, required=True, help="a compiled trace (.npz)")
    parity.add_argument("--requests", type=int, default=1000, help="of the trace, from its start")
    parity.add_argument("--deadline", type=float, metavar="S", help="seconds for the requests")
    parity.add_argument("--states", type=int, required=True, help="SSM states in the pool")
    parity.add_argument("--tokens", type=int, required=True, help="tokens in the KV pool")
    parity.add_argument(
        "--output",
        type=Path,
        required=True,
        metavar="FILE",
        help="a .csv file; a .json goes beside",
    )

    replay = commands.add_parser("replay", help="replay traces, time every request")
    replay.set_defaults(run=_replay)
    replay.add_argument(
        "--trace", type=Path, nargs="+", required=True, help="compiled traces (.npz)"
    )
    replay.add_argument(
        "--output", type=Path, required=True, metavar="FOLDER", help="TRACE.csv and .json go here"
    )
    replay.add_argument("--repeats", type=int, help="replays of each trace: TRACE-1.csv and so on")
    replay.add_argument("--speed", type=float, help="arrivals so many times faster; none: ignored")
    replay.add_argument("--concurrency", type=int, help="requests in flight at most")
    replay.add_argument(
        "--loop", choices=("closed", "open"), help="whether a turn waits for the last"
    )
    replay.add_argument("--outputs", choices=("substituted", "forced"), help="see docs/replay.md")
    replay.add_argument("--requests", type=int, help="of each trace, from its start")
    replay.add_argument("--warmup", type=int, help="requests sent before, not recorded")
    replay.add_argument("--timeout-s", type=float, help="longest silence in a request")
    replay.add_argument(
        "--virtual",
        action="store_true",
        help="in virtual time, on a simulated server that is not even started",
    )

    outputs = commands.add_parser(
        "outputs", help="what the model computes, from the cache and cold"
    )
    outputs.set_defaults(run=_outputs)
    outputs.add_argument(
        "--output", type=Path, required=True, metavar="FOLDER", help="VARIANT.csv and .json go here"
    )
    outputs.add_argument("--families", type=int, help="shared prefixes, three hits each")
    outputs.add_argument("--in-flight", type=int, nargs="+", help="requests at a time")

    bench = commands.add_parser("bench", help="SGLang's load generator, as a sanity check")
    bench.set_defaults(run=_bench)
    bench.add_argument("--output", type=Path, required=True, metavar="FILE", help="a JSON file")
    bench.add_argument("--groups", type=int, help="shared prefixes")
    bench.add_argument("--prompts", type=int, help="prompts of each")

    for command in (serve, smoke, ttft, parity, replay, bench, outputs):
        command.add_argument("--variant", required=True, help="see marconi_core/serving/spec.py")
        command.add_argument(
            "--model", required=True, help="folder with config.json, or a hub name"
        )
        command.add_argument(
            "--set", nargs="*", action="extend", default=[], metavar="FIELD=VALUE",
            help="more fields of ServerSpec, such as max_mamba_cache_size=40",
        )  # fmt: skip
        command.add_argument("--site", type=Path, help="folder of the unpacked bundle")
        command.add_argument("--kernels", type=Path, help="folder for compiled kernels")
        command.add_argument("--log", type=Path, default=Path("server.log"), help="server's output")
    return parser


def _pack(options: argparse.Namespace) -> None:
    from marconi_core.serving.bundle import pack

    pack(
        options.bundle,
        sglang=options.sglang,
        wheels=options.wheels,
        kernels=options.kernels,
        plugin=options.plugin,
    )


def _build(options: argparse.Namespace) -> None:
    from marconi_core.serving.build import build

    manifest = build(options.sglang, options.output, wheel=options.wheel)
    print("\n".join(str(options.output / name) for name in manifest["wheels"]))


def _unpack(options: argparse.Namespace) -> None:
    from marconi_core.serving.bundle import unpack

    start = time.monotonic()
    done = unpack(options.bundle, options.site, options.kernels)
    print(f"unpacked in {time.monotonic() - start:.0f} s" if done else "unpacked already")


def _keep_kernels(options: argparse.Namespace) -> None:
    from marconi_core.serving.bundle import keep_kernels

    keep_kernels(options.kernels, options.archive)


def _spec(options: argparse.Namespace, fixed: Mapping[str, Any] = {}):  # type: ignore[no-untyped-def]
    """Return the server that is asked for; `fixed` are fields that the command decides, whatever is asked."""
    from marconi_core.serving.errors import ServingError
    from marconi_core.serving.spec import ServerSpec

    fields = {"variant": options.variant, "model": options.model}
    for pair in options.set:
        key, equals, value = pair.partition("=")
        if not equals:
            raise ServingError(f"--set {pair}: write FIELD=VALUE")
        try:
            fields[key] = shlex.split(value) if key == "extra_flags" else value
        except ValueError as error:
            raise ServingError(f"--set {pair}: {error}; quote words that have spaces") from None
    flags = [*fields.get("extra_flags", ()), *fixed.get("extra_flags", ())]
    return ServerSpec.of({**fields, **fixed, "extra_flags": flags})


def _random_weights(options: argparse.Namespace) -> None:
    from marconi_core.assets import resource
    from marconi_core.serving.errors import ServingError
    from marconi_core.serving.weights import write_random_weights

    named = resource(f"models/{options.model}.json")
    source = named if named.is_file() else Path(options.model)
    if not source.is_file():
        raise ServingError(f"{options.model} is no name in resources/models and no config.json")
    write_random_weights(source, options.folder, options.seed)


def _given(options: argparse.Namespace, names: Iterable[str]) -> dict[str, Any]:
    """Return those of some options that were given."""
    values = {name: getattr(options, name) for name in names}
    return {name: value for name, value in values.items() if value is not None}


def _running(options: argparse.Namespace, fixed: Mapping[str, Any] = {}):  # type: ignore[no-untyped-def]
    """Return the runtime and the server's context manager; see `_spec`."""
    from marconi_core.serving.server import running
    from marconi_core.serving.spec import Runtime

    runtime = Runtime(site=options.site, kernels=options.kernels)
    port = getattr(options, "port", None)
    server = running(_spec(options, fixed), options.log, runtime=runtime, port=port)
    return runtime, server


def _serve(options: argparse.Namespace) -> NoReturn:
    from marconi_core.serving.errors import ServingError

    _, starting = _running(options)
    with starting as server:
        print(f"{server.spec.label}: {server.client.url} (Ctrl-C ends it)", flush=True)
        while not server.process.ended(within_s=3600):
            pass
    raise ServingError(
        f"the server ended by itself with status {server.process.status}; its log is "
        f"{options.log.resolve()}"
    )


def _smoke(options: argparse.Namespace) -> int:
    runtime, starting = _running(options)
    with starting as server:
        return _checklist(server, runtime, options.output)


def _checklist(server, runtime, output: Path) -> int:  # type: ignore[no-untyped-def]
    from marconi_core.files import write_json
    from marconi_core.serving.provenance import provenance
    from marconi_core.serving.smoke import render, smoke_test

    checks = smoke_test(server)
    print(f"{server.spec.label}\n{render(checks)}", flush=True)
    content = {"checks": [check._asdict() for check in checks]}
    write_json(output, {**content, **provenance(server, runtime)})
    return int(any(check.passed is False for check in checks))


def _parity(options: argparse.Namespace) -> int:
    """One request at a time, which is what the simulator predicts exactly."""
    from marconi_core.serving.errors import ServingError
    from marconi_core.serving.measurement import record
    from marconi_core.serving.parity import compare, differing, predicted_server, server_fields
    from marconi_core.serving.provenance import provenance
    from marconi_core.sim.server import PoolSizes
    from marconi_core.traces.trace import Trace

    if options.output.suffix != ".csv":
        raise ServingError(f"--output: {options.output} is no .csv file; a .json goes beside it")
    fixed = server_fields(options.states, options.tokens)
    predicted_server(_spec(options, fixed))  # what cannot be predicted is refused before the start
    trace = Trace.load(options.trace)
    planned = min(options.requests, len(trace))
    runtime, starting = _running(options, fixed)
    with starting as server:
        pools = PoolSizes(server.client.info().kv_tokens, options.states)
        predicted = predicted_server(server.spec, pools)
        described = {**provenance(server, runtime), "trace": trace.digest()}
        compared = compare(server.client, predicted, trace, options.requests, options.deadline)
        rows = record(
            compared, options.output, described, planned,
            lambda rows: {"differing": differing(rows)},
        )  # fmt: skip
    print(f"{len(rows)} of {planned} requests, {differing(rows)} differ")
    return int(differing(rows) > 0 or not rows)


def _replay(options: argparse.Namespace) -> None:
    from marconi_core.replay.options import ReplayOptions
    from marconi_core.replay.recording import REAL, VIRTUAL, is_complete, outputs, replayed
    from marconi_core.serving.errors import ReplayError
    from marconi_core.traces.trace import Trace

    how = ReplayOptions.of(_given(options, ReplayOptions.model_fields))
    spec = _spec(options, how.server_fields)
    traces = {path: Trace.load(path) for path in options.trace}
    server = {"spec": spec.model_dump(), "clock": VIRTUAL if options.virtual else REAL}
    made_by: Mapping[str, object] = {}  # measurements outlive edits
    if options.virtual:
        from marconi_core.replay import forecast

        made_by = forecast.made_by(spec)
    names = [path.stem for path in options.trace]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ReplayError(
            f"--trace: several files are called {', '.join(twice)}; rename one of them"
        )
    if options.repeats is not None and options.repeats < 1:
        raise ReplayError(
            f"--repeats: {options.repeats} is less than 1; leave it out for one replay"
        )
    pending = [
        (trace, path.stem, output)
        for path, trace in traces.items()
        for output in outputs(options.output, path.stem, options.repeats)
        if not is_complete(output, {**server, **replayed(trace, how)}, made_by)
    ]
    if not pending:
        print("replayed already")
    elif options.virtual:
        _replay_virtually(spec, how, pending)
    else:
        _replay_live(options, spec, how, pending)


def _replay_virtually(spec, how, pending) -> None:  # type: ignore[no-untyped-def]
    from marconi_core.replay.forecast import check, forecast
    from marconi_core.replay.summary import render, summarize

    for trace, *_ in pending:  # all of them, before the first takes minutes
        check(trace, spec, how)
    for trace, name, output in pending:
        rows = forecast(trace, spec, how, output, name)
        print(f"{output}: {spec.label}, in virtual time\n{render(summarize(rows))}", flush=True)


def _replay_live(options, spec, how, pending) -> None:  # type: ignore[no-untyped-def]
    from marconi_core.replay.recording import record_replay
    from marconi_core.replay.run import replay, warm_up
    from marconi_core.replay.summary import render, summarize
    from marconi_core.serving.hostpace import HostPace, host_pace
    from marconi_core.serving.provenance import provenance

    runtime, starting = _running(options, how.server_fields)
    with starting as server:
        described = provenance(server, runtime)
        warm, pace = None, HostPace()

        def replaying(trace, on_row):  # type: ignore[no-untyped-def]
            nonlocal pace
            with host_pace() as pace:
                return replay(trace, server.client, how, on_row)

        def after() -> dict[str, object]:
            return {"marconi": server.client.info().settings.get("marconi"), **pace.described()}

        for trace, name, output in pending:
            if trace is not warm:
                warm_up(trace, server.client, how)
                warm = trace
            rows = record_replay(
                trace, how, output, described, partial(replaying, trace), after, name
            )
            print(f"{output}: {spec.label}\n{render(summarize(rows))}", flush=True)


def _bench(options: argparse.Namespace) -> None:
    from marconi_core.files import write_json
    from marconi_core.serving.bench import Load, bench_serving
    from marconi_core.serving.fields import checked
    from marconi_core.serving.provenance import provenance

    load = checked(Load, _given(options, ("groups", "prompts")), "load")
    runtime, starting = _running(options)
    with starting as server:
        report = options.output.with_suffix(".sglang.jsonl")
        results = bench_serving(server, runtime, load, report)
        described = {**provenance(server, runtime), "load": load.model_dump(), "results": results}
        write_json(options.output, described)
    print(json.dumps(results, indent=1))


def _outputs(options: argparse.Namespace) -> int:
    from marconi_core.serving.errors import ServingError
    from marconi_core.serving.fields import checked
    from marconi_core.serving.measurement import record
    from marconi_core.serving.outputs import Plan, compare, table, wrong
    from marconi_core.serving.provenance import provenance

    if _spec(options).server == "simulated":
        raise ServingError("outputs: a simulated server computes none; leave out server=simulated")
    plan = checked(Plan, _given(options, ("families", "in_flight")), "plan")
    runtime, starting = _running(options)
    with starting as server:
        described = {**provenance(server, runtime), "plan": plan.model_dump()}
        rows = record(
            compare(server.client, plan), options.output / f"{options.variant}.csv", described,
            plan.requests, lambda rows: {"wrong": wrong(rows)},
        )  # fmt: skip
    print(f"{table(rows)}\n{wrong(rows)} hits look wrong")
    return int(wrong(rows) > 0)


def _ttft(options: argparse.Namespace) -> int:
    from marconi_core.serving.fields import checked
    from marconi_core.serving.measurement import record
    from marconi_core.serving.provenance import provenance
    from marconi_core.serving.spec import VARIANTS
    from marconi_core.serving.ttft import Plan, measure, summarize, table

    plan = checked(Plan, _given(options, ("rounds", "lengths", "others")), "plan")
    variant, failed = options.variant, 0
    runtime, starting = _running(options)
    with starting as server:
        if options.smoke:
            failed = _checklist(server, runtime, options.output / f"{variant}.smoke.json")
        plan = plan if VARIANTS[variant].reuses else plan.without_cache()
        plan = plan.beside_at_most(server.client.info().running_requests - 1)
        expected = plan.requests_per_round * (plan.rounds + plan.warmup_rounds)
        described = {**provenance(server, runtime), "plan": plan.model_dump()}
        measured = measure(server.client, plan, variant, options.deadline)
        rows = record(measured, options.output / f"{variant}.csv", described, expected)
    print(f"{json.dumps(described['pools'])}\n{table(summarize(rows))}")
    return failed


if __name__ == "__main__":
    sys.exit(main())
