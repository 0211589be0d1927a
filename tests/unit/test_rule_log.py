"""Logs of workflow rules."""

import logging
from pathlib import Path

import pytest

from marconi_core.errors import DataError
from marconi_core.rules.log import rule_log


def test_log_lines_of_the_package_are_written(tmp_path: Path) -> None:
    path = tmp_path / "logs/rule.log"
    with rule_log(path):
        logging.getLogger("marconi_core.sim").info("3 of 9 done")
    assert path.read_text(encoding="utf-8").endswith("INFO 3 of 9 done\n")
    logging.getLogger("marconi_core.sim").info("later")
    assert "later" not in path.read_text(encoding="utf-8")


def test_expected_errors_end_with_one_message(tmp_path: Path) -> None:
    path = tmp_path / "rule.log"
    with pytest.raises(SystemExit, match="DataError: no such file"), rule_log(path):
        raise DataError("no such file")
    text = path.read_text(encoding="utf-8")
    assert "Traceback" in text
    assert text.endswith("ERROR DataError: no such file\n")


def test_unexpected_errors_are_logged_and_raised(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), rule_log(tmp_path / "rule.log"):
        _ = 1 / 0
    assert "ZeroDivisionError" in (tmp_path / "rule.log").read_text(encoding="utf-8")
