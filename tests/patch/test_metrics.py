"""Prometheus metrics: what /metrics shows is what the cache counted, through SGLang's own collectors."""

import json
import re
import time
import timeit
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from marconi_sglang import plugin
from marconi_sglang.metrics import COUNTERS, GAUGES
from prometheus_client import REGISTRY
from sglang.srt.observability.metrics_collector import (
    SchedulerMetricsCollector,
    SchedulerStats,
    TokenizerMetricsCollector,
)
from sglang.srt.server_args import ServerArgs

from marconi_core.sim.server.settings import MarconiSettings
from tests.patch.cpu_server import CpuServer, Setup
from tests.patch.workloads import random_requests, server
from tests.sglang_cpu.scrape import LABELS, Scrape, expected, scraping
from tests.sglang_cpu.workloads import EVERY_BRANCH


@pytest.fixture
def scrape(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scrape]:
    with scraping(tmp_path, monkeypatch) as scrape:
        yield scrape


def attach(load: CpuServer) -> Callable[[], None]:
    """Connect a server's cache with SGLang's collector; return what logs the statistics."""
    collector = SchedulerMetricsCollector(
        labels=LABELS, server_args=ServerArgs(model_path="none", enable_metrics=True)
    )
    plugin._attach(
        None,
        SimpleNamespace(tree_cache=load.cache, enable_overlap=False, metrics_collector=collector),
    )
    return lambda: collector.log_stats(SchedulerStats())


def test_metrics_are_what_the_cache_counts(scrape: Scrape) -> None:
    load = server(Setup(300, 8), MarconiSettings(eff_weight=1.0, **EVERY_BRANCH))
    log_stats = attach(load)
    requests = list(random_requests(1, 80))
    for request in requests[:50]:
        load.serve(*request)
    assert scrape().get(("marconi_requests_total",)) == 0  # not set for each request
    log_stats()
    assert scrape() == expected(load.cache.counts())
    for request in requests[50:]:
        load.serve(*request)
    log_stats()
    found = scrape()
    assert found == expected(load.cache.counts())
    assert found["marconi_requests_total",] == 80 and found["marconi_alpha",] == 1
    assert found["marconi_hit_tokens_total",] == sum(load.hits.values()) > 0
    assert found["marconi_evictions_total", "leaf", "states"] > 0
    assert load.cache.marconi_state()["cached_tokens"] == sum(map(len, _edges(load)))


def _edges(load: CpuServer) -> list[Any]:
    """The edges of the tree, read from its nodes."""
    nodes, edges = [load.cache.root_node], []
    while nodes:
        children = list(nodes.pop().children.values())
        nodes += children
        edges += [child.key for child in children]
    return edges


def test_counters_survive_a_flush(scrape: Scrape) -> None:
    load = server(Setup(300, 8), MarconiSettings(eff_weight=0.0, **EVERY_BRANCH))
    log_stats = attach(load)
    for request in random_requests(1, 30):
        load.serve(*request)
    load.flush()  # nothing was logged since the first request
    for request in random_requests(2, 40):
        load.serve(*request)
    log_stats()
    found = scrape()
    assert found["marconi_requests_total",] == 70
    assert found["marconi_token_hit_rate",] == load.cache.statistics.token_hit_rate
    assert load.cache.statistics.requests == 40


def test_evictions_are_counted_on_after_a_flush(scrape: Scrape) -> None:
    load = server(Setup(300, 8), MarconiSettings(eff_weight=0.0, **EVERY_BRANCH))
    log_stats = attach(load)
    evicted = 0
    for requests in (30, 60):  # more than before, so that nothing shows that it started over
        for request in random_requests(1, requests):
            load.serve(*request)
        log_stats()
        evicted += sum(load.cache.two_pool.evictions.values())
        load.flush()
    assert (
        sum(n for (name, *_), n in scrape().items() if name == "marconi_evictions_total") == evicted
    )


def test_the_tuner_is_shown(scrape: Scrape) -> None:
    load = server(Setup(300, 8), MarconiSettings(**EVERY_BRANCH))
    log_stats = attach(load)
    log_stats()
    assert scrape()["marconi_tuner_state", "idle"] == 1
    try:
        load.serve([1, 2, 3], [4])
        log_stats()
        assert scrape() == expected(load.cache.counts())
        assert scrape()["marconi_tuner_state", "running"] == 1
    finally:
        load.cache.tuner.close()
    log_stats()
    found = scrape()
    assert [found["marconi_tuner_state", s] for s in ("idle", "running", "stopped")] == [0, 0, 1]


def followed(load: CpuServer, requests: int) -> None:
    """Wait until the tuner's process has followed so many requests."""
    deadline = time.monotonic() + 60
    while load.cache.tuner.shadow["requests"] < requests:
        assert time.monotonic() < deadline, load.cache.tuner.status
        time.sleep(0.02)


@pytest.mark.parametrize(
    "setup", [Setup(300, 8), Setup(300, 8, strategy="extra_buffer", overlap=True)]
)
def test_the_simulator_predicts_each_hit(setup: Setup, scrape: Scrape) -> None:
    """While alpha is tuned, and taken when it comes."""
    load = server(setup, MarconiSettings(**EVERY_BRANCH))
    log_stats = attach(load)
    try:
        for request in random_requests(1, 150):
            load.serve(*request)
        followed(load, 150)
        log_stats()
    finally:
        load.cache.tuner.close()
    found = scrape()
    assert found["marconi_shadow_requests_total",] == 150
    assert found["marconi_shadow_mismatches_total",] == 0
    assert found["marconi_shadow_hit_tokens_total",] == found["marconi_hit_tokens_total",] > 0
    assert found["marconi_shadow_input_tokens_total",] == found["marconi_input_tokens_total",]


def test_a_flush_that_the_tuner_misses_is_noticed(
    scrape: Scrape, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = server(Setup(300, 8), MarconiSettings(**EVERY_BRANCH))
    log_stats = attach(load)
    monkeypatch.setattr(load.cache.tuner, "flushed", lambda: None)
    try:
        for _ in range(2):
            for request in random_requests(1, 40):
                load.serve(*request)
            load.flush()
        followed(load, 80)
        log_stats()
    finally:
        load.cache.tuner.close()
    assert scrape()["marconi_shadow_mismatches_total",] > 0


def test_admission_alone_has_no_alpha(scrape: Scrape) -> None:
    load = server(Setup(300, 8), MarconiSettings(admission_only=True, **EVERY_BRANCH))
    log_stats = attach(load)
    load.serve(range(20), [1])
    log_stats()
    assert scrape() == expected(load.cache.counts())
    assert ("marconi_alpha",) not in scrape() and scrape()["marconi_cached_states",] == 1


def test_without_metrics_nothing_is_published(scrape: Scrape) -> None:
    load = server(Setup(300, 8), MarconiSettings(eff_weight=0.0, **EVERY_BRANCH))
    plugin._attach(
        None, SimpleNamespace(tree_cache=load.cache, enable_overlap=False, metrics_collector=None)
    )
    load.serve([1, 2, 3], [4])
    load.flush()
    assert scrape() == {}


def test_everything_counted_is_described() -> None:
    """A count that is added to the cache must not be missing among the metrics."""
    load = server(Setup(300, 8), MarconiSettings(**EVERY_BRANCH))
    assert load.cache.counts().keys() == COUNTERS.keys() | GAUGES.keys() | {"evictions", "tuner"}


def test_the_dashboard_asks_for_what_there_is(scrape: Scrape, repository: Path) -> None:
    """Every metric of ours is on it, and every metric on it exists, SGLang's too."""
    load = server(Setup(300, 8), MarconiSettings(**EVERY_BRANCH))
    before = set(REGISTRY._names_to_collectors)
    attach(load)()
    TokenizerMetricsCollector(ServerArgs(model_path="none"), labels={"model_name": "none"})
    there = set(REGISTRY._names_to_collectors) - before
    board = json.loads((repository / "deploy/grafana/dashboards/marconi.json").read_text())
    asked = set()
    for query in [target["expr"] for panel in board["panels"] for target in panel["targets"]]:
        for pattern in re.findall(r'__name__=~"([^"]+)"|(marconi_\w+)', query):
            pattern = pattern[0] or pattern[1]
            found = {name for name in there if re.fullmatch(pattern, name)}
            assert found, f"{pattern} in {query}"
            asked |= found
        assert "sglang" not in re.sub(r'__name__=~"[^"]+"', "", query)
    ours = {name for name in there if name.startswith("marconi_")}
    missing = {n for n in ours - asked if f"{n}_total" not in ours and not n.endswith("_created")}
    assert missing == {"marconi_requests_total", "marconi_cached_nodes"}


def test_publishing_costs_little(scrape: Scrape) -> None:
    """Beside what SGLang's own metrics cost each time."""
    load = server(Setup(300, 8), MarconiSettings(eff_weight=1.0, **EVERY_BRANCH))
    for request in random_requests(1, 50):
        load.serve(*request)
    log_stats = attach(load)
    both = min(timeit.repeat(log_stats, number=20, repeat=5))
    ours = min(timeit.repeat(load.cache.publish, number=20, repeat=5))
    assert ours < both / 3
