"""Heartbeat lines come at most once an interval."""

import logging

from marconi_core.progress import Heartbeat

logger = logging.getLogger("marconi.test")


def test_lines_are_spaced(caplog):
    with caplog.at_level("INFO"):
        eager = Heartbeat(logger, "%s: %d done", interval_s=0.0)
        eager.beat("50%", 1)
        eager.beat("50%", 2)
        patient = Heartbeat(logger, "never", interval_s=3600.0)
        patient.beat()
    assert caplog.messages == ["50%: 1 done", "50%: 2 done"]
