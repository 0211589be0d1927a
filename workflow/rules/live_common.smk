# Helpers only: which live servers there are, and where their measurements come from.
import shlex

from marconi_core.replay.forecast import CODE as FORECAST_CODE
from marconi_core.rules.live import (
    ORIGINS,
    origin,
    recorded_checklists,
    recorded_inputs,
    recorded_predictions,
    replay_folders,
)

LIVE = STUDY.live
ORIGIN = origin(LIVE)
SERVING = f"{shlex.quote(sys.executable)} -m marconi_core.serving"
QUICK_TTFT = "--rounds 1 --lengths 1024 2048 4096 --others"
PARITY_KV_TOKENS = 400_000
# How long the batches of a simulated server take.
BATCH_TIMES = recorded_inputs("ttft")
# On a cluster all other figures are one job, which need not wait hours for servers.
LIVE_FIGURES = "live" if ORIGIN == "sglang" else "figures"
# What a server takes beside its GPU: tokenizer, scheduler and client, and the weights while they are loaded.
SERVER_CPUS, SERVER_MEM_MB = (4, 64_000) if ORIGIN == "sglang" else (1, 2_000)


wildcard_constraints:
    variant=r"[a-z_]+(@[\d.]+)?",
    states=r"\d+",


def replayed_traces(wildcards):
    """Names of the traces to replay, of the data sets that take part."""
    present = used(wildcards)
    return [name for name in LIVE.traces if STUDY.trace(name).dataset in present]


def live_traces(pattern):
    """Input function: a file of every trace to replay."""

    def files(wildcards):
        names = replayed_traces(wildcards)
        if not names:
            missing = left_out(wildcards).items()
            reasons = "; ".join(f"{name}: {why}" for name, why in missing)
            raise WorkflowError(
                "live.traces: none of these traces can be had, so that there is nothing to replay "
                f"({reasons}); name a trace of another data set"
            )
        return [pattern.format(trace=name) for name in names]

    return files


def live_results(wildcards):
    """What is live and takes neither hours on a GPU, which have to be asked for, nor missing traces."""
    if ORIGIN == "sglang" or ORIGIN == "simulated" and not replayed_traces(wildcards):
        return []
    return list(rules.live.input)


def server_words(wildcards):
    """Words that name the server to the command line."""
    states = wildcards.get("states", LIVE.states[-1])
    return shlex.join(LIVE.server_words(wildcards.variant, int(states)))


def simulated_words(wildcards):
    """Words that name the same server, simulated."""
    words = LIVE.server_words(
        wildcards.variant, int(wildcards.states), server="simulated"
    )
    return shlex.join(words)


def measured(what, files):
    """Files of this machine's measurements, or the recorded ones."""
    return recorded_inputs(what) if ORIGIN == "recorded" else files


def parity_runs(wildcards):
    if ORIGIN == "recorded":
        return recorded_inputs("parity")
    return [
        path
        for variant in LIVE.parity
        for path in live_traces(f"<results>/live/parity/{variant}_{{trace}}.csv")(
            wildcards
        )
    ]
