"""Command line of live serving: ``python -m marconi_core.serving COMMAND --help``.

It runs from a checkout on a GPU node, where this package is not installed. `pack`, `unpack` and
`keep-kernels` need a bare Python only; the other commands need pydantic, which the bundle brings.
"""

import argparse
import json
import logging
import sys
import time
from collections.abc import Sequence
from pathlib import Path

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

    unpack = commands.add_parser("unpack", help="unpack a bundle on the GPU node")
    unpack.set_defaults(run=_unpack)
    unpack.add_argument("bundle", type=Path)
    unpack.add_argument("--site", type=Path, required=True, help="folder for packages")
    unpack.add_argument("--kernels", type=Path, help="folder for compiled kernels")

    keep = commands.add_parser("keep-kernels", help="pack the kernels that a server compiled")
    keep.set_defaults(run=_keep_kernels)
    keep.add_argument("archive", type=Path, help="file to write, .tar.xz")
    keep.add_argument("--kernels", type=Path, required=True, help="folder of compiled kernels")

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
    ttft.add_argument("--deadline", type=float, metavar="S", help="seconds for the requests")
    ttft.add_argument("--smoke", action="store_true", help="go through the checklist first")

    parity = commands.add_parser("parity", help="cached tokens, predicted and served")
    parity.set_defaults(run=_parity)
    parity.add_argument("--trace", type=Path, required=True, help="a compiled trace (.npz)")
    parity.add_argument("--requests", type=int, default=1000, help="of the trace, from its start")
    parity.add_argument("--states", type=int, required=True, help="SSM states in the pool")
    parity.add_argument("--tokens", type=int, required=True, help="tokens in the KV pool")
    parity.add_argument("--alpha", type=float, help="with Marconi at this alpha; stock without")
    parity.add_argument(
        "--output",
        type=Path,
        required=True,
        metavar="FILE",
        help="a .csv file; a .json goes beside",
    )

    for command in (serve, smoke, ttft, parity):
        command.add_argument("--variant", required=True, help="see marconi_core/serving/spec.py")
        command.add_argument(
            "--model", required=True, help="folder with config.json, or a hub name"
        )
        command.add_argument(
            "--set", nargs="+", default=[], metavar="FIELD=VALUE",
            help="more fields of ServerSpec, such as max_mamba_cache_size=40",
        )  # fmt: skip
        command.add_argument("--site", type=Path, help="folder of the unpacked bundle")
        command.add_argument("--kernels", type=Path, help="folder for compiled kernels")
        command.add_argument("--log", type=Path, default=Path("server.log"), help="server's output")
    return parser


def _pack(options: argparse.Namespace) -> None:
    from marconi_core.serving.bundle import pack

    pack(options.bundle, sglang=options.sglang, wheels=options.wheels, kernels=options.kernels)


def _unpack(options: argparse.Namespace) -> None:
    from marconi_core.serving.bundle import unpack

    start = time.monotonic()
    done = unpack(options.bundle, options.site, options.kernels)
    print(f"unpacked in {time.monotonic() - start:.0f} s" if done else "unpacked already")


def _keep_kernels(options: argparse.Namespace) -> None:
    from marconi_core.serving.bundle import keep_kernels

    keep_kernels(options.kernels, options.archive)


def _running(options: argparse.Namespace, port: int | None = None):  # type: ignore[no-untyped-def]
    """Return the spec, the runtime and the server's context manager."""
    from marconi_core.serving.errors import ServingError
    from marconi_core.serving.server import running
    from marconi_core.serving.spec import Runtime, ServerSpec

    fields = {"variant": options.variant, "model": options.model}
    for pair in options.set:
        key, equals, value = pair.partition("=")
        if not equals:
            raise ServingError(f"--set {pair}: write FIELD=VALUE")
        fields[key] = value.split() if key == "extra_flags" else value
    runtime = Runtime(site=options.site, kernels=options.kernels)
    server = running(ServerSpec.of(fields), options.log, runtime=runtime, port=port)
    return runtime, server


def _serve(options: argparse.Namespace) -> None:
    _, starting = _running(options, options.port)
    with starting as server:
        print(f"{server.spec.label}: {server.client.url} (Ctrl-C ends it)", flush=True)
        while not server.process.ended(within_s=3600):
            pass


def _smoke(options: argparse.Namespace) -> int:
    runtime, starting = _running(options)
    with starting as server:
        return _checklist(server, runtime, options.output)


def _checklist(server, runtime, output: Path) -> int:  # type: ignore[no-untyped-def]
    from marconi_core.serving.provenance import provenance, write_json
    from marconi_core.serving.smoke import render, smoke_test

    checks = smoke_test(server)
    print(f"{server.spec.label}\n{render(checks)}", flush=True)
    content = {"checks": [check._asdict() for check in checks]}
    write_json(output, {**content, **provenance(server, runtime)})
    return int(any(check.passed is False for check in checks))


def _parity(options: argparse.Namespace) -> int:
    """One request at a time under `no_buffer`, which is what the simulator predicts exactly."""
    from marconi_core.models import load_hybrid_model
    from marconi_core.serving.parity import PREFILL_CHUNK, compare, server_fields
    from marconi_core.serving.provenance import provenance, write_json
    from marconi_core.serving.ttft import record
    from marconi_core.sim.server import STOCK, PoolSizes, ServerSimulator, marconi
    from marconi_core.traces.trace import Trace

    options.set = [*options.set, *server_fields(options.states, options.tokens, options.alpha)]
    policy = STOCK if options.alpha is None else marconi(options.alpha)
    runtime, starting = _running(options)
    with starting as server:
        pools = PoolSizes(server.client.info().kv_tokens, options.states)
        costs = load_hybrid_model(options.model)
        simulator = ServerSimulator(pools, policy, costs, PREFILL_CHUNK)
        trace = Trace.load(options.trace)
        rows = record(compare(server.client, simulator, trace, options.requests), options.output)
        differing = sum(row.predicted_tokens != row.cached_tokens for row in rows)
        described = {**provenance(server, runtime), "requests": len(rows), "differing": differing}
        write_json(options.output.with_suffix(".json"), described)
    print(f"{len(rows)} requests, {differing} differ")
    return int(differing > 0)


def _ttft(options: argparse.Namespace) -> int:
    from marconi_core.serving.provenance import provenance, write_json
    from marconi_core.serving.spec import VARIANTS
    from marconi_core.serving.ttft import Plan, measure, record, summarize, table

    given = {"rounds": options.rounds, "lengths": options.lengths}
    plan = Plan(**{key: value for key, value in given.items() if value is not None})
    variant, failed = options.variant, 0
    runtime, starting = _running(options)
    with starting as server:
        if options.smoke:
            failed = _checklist(server, runtime, options.output / f"{variant}.smoke.json")
        plan = plan if VARIANTS[variant].reuses else plan.without_cache()
        expected = plan.requests_per_round * (plan.rounds + plan.warmup_rounds)
        described = {**provenance(server, runtime), "plan": plan.model_dump()}
        described |= {"requests_planned": expected, "requests": 0}
        description = options.output / f"{variant}.json"
        write_json(description, described)  # a run that is killed must not look complete
        measured = measure(server.client, plan, variant, options.deadline)
        rows = record(measured, options.output / f"{variant}.csv")
        described["requests"] = len(rows)
        write_json(description, described)
    print(f"{json.dumps(described['pools'])}\n{table(summarize(rows))}")
    return failed


if __name__ == "__main__":
    sys.exit(main())
