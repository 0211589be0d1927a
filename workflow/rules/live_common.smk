# Helpers only: which live servers there are, and where their measurements come from.
import shlex

from marconi_core.config.live import KEEP, TEKKEN
from marconi_core.rules.live import (
    ORIGINS,
    origin,
    recorded_checklists,
    recorded_inputs,
    replay_folders,
)

LIVE = STUDY.live
ORIGIN = origin(LIVE)
SERVING = f"{sys.executable} -m marconi_core.serving"
QUICK_TTFT = "--rounds 1 --lengths 1024 2048 4096"
PARITY_KV_TOKENS = 400_000


wildcard_constraints:
    variant=r"[a-z_]+(@[\d.]+)?",
    states=r"\d+",


def target_tokenizer():
    """The vocabulary that traces are translated into."""
    tekken = "<data>/tekken-tokenizer.json"
    return {KEEP: [], TEKKEN: tekken}.get(LIVE.tokenizer, LIVE.tokenizer)


def live_traces(pattern):
    """Input function: a file of every trace to replay, of the data sets that take part."""
    return lambda wildcards: [
        pattern.format(trace=name)
        for name in LIVE.traces
        if STUDY.trace(name).dataset in used(wildcards)
    ]


def server_words(wildcards):
    """Words that name the server to the command line."""
    states = wildcards.get("states", LIVE.states[-1])
    return shlex.join(LIVE.server_words(wildcards.variant, int(states)))


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
