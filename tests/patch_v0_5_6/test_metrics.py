"""Prometheus metrics of the patched server, through its own collector."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from marconi_sglang.metrics import publish_together
from sglang.srt.metrics.collector import SchedulerMetricsCollector, SchedulerStats

from marconi_core.sim.server.settings import MarconiSettings
from tests.patch_v0_5_6.cpu_server import Setup
from tests.patch_v0_5_6.workloads import random_requests, server
from tests.sglang_cpu.scrape import LABELS, Scrape, expected, scraping
from tests.sglang_cpu.workloads import EVERY_BRANCH


@pytest.fixture
def scrape(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scrape]:
    with scraping(tmp_path, monkeypatch) as scrape:
        yield scrape


@pytest.mark.parametrize(
    "settings",
    [MarconiSettings(eff_weight=1.0, **EVERY_BRANCH), MarconiSettings(admission_only=True)],
)
def test_metrics_are_what_the_cache_counts(settings: MarconiSettings, scrape: Scrape) -> None:
    load = server(Setup(300, 8), settings)
    collector = SchedulerMetricsCollector(labels=LABELS)
    publish_together(load.cache, collector)
    for request in random_requests(1, 50):
        load.serve(*request)
    load.flush()
    for request in random_requests(2, 30):
        load.serve(*request)
    collector.log_stats(SchedulerStats())
    found = scrape()
    assert found["marconi_requests_total",] == 80
    gauges = {key for key in found if not key[0].endswith("_total")}
    assert gauges == {
        ("marconi_token_hit_rate",),
        ("marconi_cached_states",),
        ("marconi_cached_tokens",),
    } | (set() if settings.admission_only else {("marconi_alpha",), ("marconi_cached_nodes",)})
    wanted = expected(load.cache.counts())
    assert {key: found[key] for key in gauges} == {key: wanted[key] for key in gauges}


def test_a_collector_without_a_cache_publishes_nothing(scrape: Scrape) -> None:
    SchedulerMetricsCollector(labels=LABELS).log_stats(SchedulerStats())
    assert scrape() == {}
