"""What a scrape of a server's /metrics finds of Marconi."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY, CollectorRegistry, generate_latest, values
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.parser import text_string_to_metric_families

LABELS = {
    "model_name": "none",
    "engine_type": "unified",
    "tp_rank": 0,
    "pp_rank": 0,
    "moe_ep_rank": 0,
}
"""Of SGLang's own metrics."""

Samples = dict[tuple[str, ...], float]
"""Values by name and by what labels are added to the usual ones."""

Scrape = Callable[[], Samples]


@contextmanager
def scraping(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scrape]:
    """Yield what scrapes the metrics that are registered meanwhile.

    As in a server, values travel through files, and a registry without metrics of its own reads them.
    """
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(folder))
    monkeypatch.setattr(values, "ValueClass", values.MultiProcessValue())
    before = set(REGISTRY._collector_to_names)

    def scrape() -> Samples:
        registry = CollectorRegistry()
        MultiProcessCollector(registry)
        families = text_string_to_metric_families(generate_latest(registry).decode())
        samples = (sample for family in families for sample in family.samples)
        return {
            (s.name, *(v for k, v in sorted(s.labels.items()) if k not in LABELS)): s.value
            for s in samples
            if s.name.startswith("marconi_")
        }

    yield scrape
    for collector in set(REGISTRY._collector_to_names) - before:
        REGISTRY.unregister(collector)


def expected(counts: dict[str, Any]) -> Samples:
    """Return the samples of what a cache counts."""
    gauges = ("token_hit_rate", "cached_states", "cached_tokens", "cached_nodes", "alpha")
    samples: Samples = {(f"marconi_{name}",): counts.pop(name) for name in gauges if name in counts}
    for key, count in counts.pop("evictions", {}).items():
        pool, kind = key.split("/")
        samples["marconi_evictions_total", kind, pool] = count
    if tuner := counts.pop("tuner", None):
        for state in ("idle", "running", "stopped"):
            samples["marconi_tuner_state", state] = tuner["status"].startswith(state)
    return samples | {(f"marconi_{name}_total",): count for name, count in counts.items()}
