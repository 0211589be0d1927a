"""Command line: describe, compile, simulate and sweep traces without Snakemake."""

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from marconi_core import __version__
from marconi_core.errors import MarconiError, TraceError
from marconi_core.models import MODELS, load_model
from marconi_core.policies import POLICIES
from marconi_core.policies.tuner import ALPHA_GRID
from marconi_core.traces.trace import Trace

PAPER_MODEL = "paper_7b"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return 0, or 2 after one line on standard error."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(
        level=logging.WARNING if options.quiet else logging.INFO, format="%(message)s"
    )
    try:
        options.run(options)
    except MarconiError as error:
        print(f"marconi: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader of a pipe has seen enough
        sys.stderr.close()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="marconi", description=__doc__)
    parser.add_argument("--version", action="version", version=f"marconi {__version__}")
    parser.add_argument("-q", "--quiet", action="store_true", help="show warnings only")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    describe = _command(commands, "describe", _describe, "print (and plot) what a trace holds")
    describe.add_argument("--json", action="store_true", help="print one JSON object")
    describe.add_argument("--plot", type=Path, metavar="FILE", help="write a figure: .svg, .pdf")

    compiling = _command(commands, "compile", _compile, "compile a trace once, for fast loading")
    compiling.add_argument("-o", "--output", type=Path, required=True, help="a .npz file")
    compiling.add_argument(
        "--format", choices=("paper", "mooncake"), default="paper",
        help="of TRACE: the paper's, or block hashes as in Mooncake's traces (default: paper)",
    )  # fmt: skip

    retokenizing = _command(
        commands, "retokenize", _retokenize, "translate a trace into another model's vocabulary"
    )
    retokenizing.add_argument(
        "--source", type=Path, required=True, metavar="FILE", help="its tokenizer.json"
    )
    retokenizing.add_argument(
        "--target", type=Path, required=True, metavar="FILE", help="the other tokenizer.json"
    )
    retokenizing.add_argument("-o", "--output", type=Path, required=True, help="a .npz file")

    simulate = _command(commands, "simulate", _simulate, "replay a trace under one policy")
    simulate.add_argument("--policy", required=True, metavar="P", help=", ".join(POLICIES))
    simulate.add_argument(
        "--capacity", type=float, required=True, metavar="BYTES", help="cache size, e.g. 4e9"
    )
    simulate.add_argument(
        "--alpha", type=float, metavar="A", help="weight of FLOP efficiency (policy oracle)"
    )
    simulate.add_argument("--json", action="store_true", help="print one JSON object with digests")
    _add_simulation_options(simulate)

    sweep = _command(commands, "sweep", _sweep, "replay a trace under a grid, write tables")
    sweep.add_argument(
        "--policies", nargs="+", default=list(POLICIES), metavar="P", help=", ".join(POLICIES)
    )
    sweep.add_argument("--capacities", nargs="+", type=float, required=True, metavar="BYTES")
    sweep.add_argument(
        "--alphas", nargs="+", type=float, default=ALPHA_GRID, metavar="A",
        help="alphas of policy oracle, and those the tuner tries (default: 0, 0.1, ... 2)",
    )  # fmt: skip
    sweep.add_argument("-o", "--output", type=Path, required=True, help="folder for the tables")
    _add_simulation_options(sweep)
    return parser


def _command(commands, name, run, text):  # type: ignore[no-untyped-def]
    command = commands.add_parser(name, help=text, description=text)
    command.add_argument("trace", metavar="TRACE", type=Path, help="JSONL (.gz, .xz) or .npz")
    command.set_defaults(run=run)
    return command


def _add_simulation_options(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--bootstrap-multiplier", type=int, default=5, metavar="M",
        help="the tuner's window: M times the requests before the first eviction (default: 5)",
    )  # fmt: skip
    command.add_argument(
        "--model", default=PAPER_MODEL, metavar="NAME",
        help=f"{', '.join(MODELS)}; a JSON file with the paper's five numbers; or a Hugging Face "
        f"config.json (default: {PAPER_MODEL})",
    )  # fmt: skip


def _load(path: Path) -> Trace:
    from marconi_core.traces.jsonl import read_trace

    return Trace.load(path) if path.suffix == ".npz" else read_trace(path)


def _describe(options: argparse.Namespace) -> None:
    from marconi_core.traces.describe import describe

    trace = _load(options.trace)
    found = describe(trace)
    print(json.dumps(found.to_dict()) if options.json else found.to_text())
    if options.plot:
        from marconi_core.plots.style import save
        from marconi_core.plots.trace import draw

        save(draw(trace, options.trace.name), options.plot)


def _compile(options: argparse.Namespace) -> None:
    _check_compiled(options.output)
    if options.format == "mooncake":
        from marconi_core.traces.sources.mooncake import read_requests

        trace = Trace.build(read_requests(options.trace))
    else:
        trace = _load(options.trace)
    trace.save(options.output)


def _retokenize(options: argparse.Namespace) -> None:
    from marconi_core.traces.retokenize import retokenize
    from marconi_core.traces.vocabulary import Vocabulary

    _check_compiled(options.output)
    source, target = Vocabulary.load(options.source), Vocabulary.load(options.target)
    trace, change = retokenize(_load(options.trace), source, target)
    trace.save(options.output)
    print(change.to_text())


def _check_compiled(path: Path) -> None:
    if path.suffix != ".npz":
        raise TraceError(f"{path}: compiled traces end in .npz")


def _simulate(options: argparse.Namespace) -> None:
    from marconi_core.sim.digests import summary
    from marconi_core.sim.simulation import simulate
    from marconi_core.traces.jsonl import content_sha256, trace_sha256

    model = load_model(options.model)
    trace = _load(options.trace)
    run = simulate(
        trace,
        options.policy,
        options.capacity,
        model,
        alpha=options.alpha,
        bootstrap_multiplier=options.bootstrap_multiplier,
        log=options.json,
    )
    if options.json:
        # a pipe can be read once
        again = options.trace.suffix != ".npz" and options.trace.is_file()
        digest = content_sha256(options.trace) if again else trace_sha256(trace)
        print(json.dumps(summary(run, options.trace.name, digest)))
        return
    print(
        f"{run.policy.label}: token hit rate {run.token_hit_rate:.2%}, request hit rate "
        f"{run.request_hit_rate:.2%}, {run.flops_saved.total:.4g} FLOPs saved, "
        f"{run.leaf_evictions + run.internal_evictions} evictions"
        + ("" if run.alpha is None else f", alpha {run.alpha:g}")
    )


def _sweep(options: argparse.Namespace) -> None:
    from marconi_core.progress import Heartbeat
    from marconi_core.sim.sweep import sweep

    heartbeat = Heartbeat(logging.getLogger("marconi"), "%d of %d simulations done, next: %s")
    tables = sweep(
        _load(options.trace),
        capacities=options.capacities,
        policies=options.policies,
        model=load_model(options.model),
        model_name=options.model,
        alphas=options.alphas,
        bootstrap_multiplier=options.bootstrap_multiplier,
        labels={"trace": options.trace.name},
        progress=heartbeat.beat,
    )
    tables.write(options.output)
    shown = ["capacity_bytes", "policy", "alpha", "token_hit_rate", "request_hit_rate"]
    print(tables.runs[shown].to_string(index=False))


if __name__ == "__main__":
    sys.exit(main())
