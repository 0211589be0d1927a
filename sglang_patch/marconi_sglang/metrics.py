"""What a cache counts as Prometheus metrics, beside SGLang's own (``--enable-metrics``).

SGLang collects the metrics of its processes through files, so they must be set where the cache is;
that is done whenever SGLang logs its own, never for a request. Its names have a colon, which many
tools reserve; ours have none.
"""

from collections.abc import Callable, Mapping
from typing import Any

COUNTERS = {
    "requests": "Requests admitted; one that was retracted counts once.",
    "input_tokens": "Prompt tokens of admitted requests.",
    "hit_tokens": "Prompt tokens served from the cache.",
    "branch_states": "States cached at branch points.",
    "vetoed_states": "States refused that SGLang would have cached.",
    "deferred_prompts": "Prompts with a branch point put off to the next prefill batch.",
    "probation_states": "States cached until their request ends, unless another one uses them.",
    "kept_states": "States on probation that another request used.",
    "alpha_switches": "Times that tuning changed alpha.",
    "shadow_requests": "Requests that the tuner's simulator followed.",
    "shadow_mismatches": "Of those, the ones whose hit it predicted wrongly.",
    "shadow_input_tokens": "Prompt tokens of the requests that it followed.",
    "shadow_hit_tokens": "Hits that it predicted, in tokens.",
}
GAUGES = {
    "token_hit_rate": "Prompt tokens served from the cache / prompt tokens, since the last flush.",
    "cached_states": "SSM states in the cache.",
    "cached_tokens": "Tokens whose KVs are in the cache.",
    "cached_nodes": "Nodes of the cache's tree.",
    "alpha": "Weight of FLOP efficiency against recency.",
}
EVICTIONS = "Evictions, by the pool that was short and by what went: a leaf or a state alone."
TUNER = "State of the process that tunes alpha: 1 for the state that it is in."
TUNER_STATES = ("idle", "running", "stopped")


def publish_together(cache: Any, collector: Any) -> None:
    """Publish a cache's metrics whenever SGLang's collector logs those of the scheduler."""
    cache.publish = CacheMetrics(cache.counts, collector.labels).publish
    collector.publish_marconi = cache.publish


class CacheMetrics:
    """Publishes what a cache counts."""

    def __init__(self, counts: Callable[[], Mapping[str, Any]], labels: Mapping[str, Any]) -> None:
        """Register the metrics of the cache, once in a process.

        Args:
            counts: returns the cache's counts, as `/server_info` shows them.
            labels: those of SGLang's own metrics.
        """
        # prometheus_client looks at its environment when it is imported: SGLang sets that first
        from prometheus_client import Counter, Gauge

        def counter(name: str, text: str, *more: str) -> Any:
            return Counter(f"marconi_{name}", text, [*labels, *more])

        def gauge(name: str, text: str, *more: str) -> Any:
            names = [*labels, *more]
            return Gauge(f"marconi_{name}", text, names, multiprocess_mode="mostrecent")

        self._counts, self._labels = counts, dict(labels)
        shown = counts()
        self._totals = {
            name: _Total(counter(name, text).labels(**labels))
            for name, text in COUNTERS.items()
            if name in shown
        }
        self._gauges = {
            name: gauge(name, text).labels(**labels)
            for name, text in GAUGES.items()
            if name in shown
        }
        self._evictions = counter("evictions", EVICTIONS, "pool", "kind")
        self._evicted: dict[str, _Total] = {}
        self._tuner = {}
        if "tuner" in shown:
            tuner = gauge("tuner_state", TUNER, "state")
            self._tuner = {s: tuner.labels(**labels, state=s) for s in TUNER_STATES}

    def publish(self) -> None:
        """Bring the metrics up to date."""
        counts = self._counts()
        for name, total in self._totals.items():
            total.follow(counts[name])
        for name, gauge in self._gauges.items():
            gauge.set(counts[name])
        evictions = counts.get("evictions", {})
        for key in evictions.keys() - self._evicted.keys():
            pool, kind = key.split("/")
            child = self._evictions.labels(**self._labels, pool=pool, kind=kind)
            self._evicted[key] = _Total(child)
        for key, total in self._evicted.items():
            total.follow(evictions.get(key, 0))  # none has been counted since a flush
        for state, gauge in self._tuner.items():
            gauge.set(counts["tuner"]["status"].partition(":")[0] == state)


class _Total:
    """A counter that follows a count, which may start over at 0."""

    def __init__(self, counter: Any) -> None:
        self._counter, self._seen = counter, 0

    def follow(self, count: int) -> None:
        self._counter.inc(count - self._seen if count >= self._seen else count)
        self._seen = count
