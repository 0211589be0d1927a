"""Optional data sets: what cannot be had is named, with the reason."""

from pathlib import Path
from typing import Any

import pytest

from marconi_core import datasets
from marconi_core.config import load_config
from marconi_core.errors import DataError
from marconi_core.rules.availability import check_optional, read_reasons, write_reasons


def dataset(source: str, **options: Any) -> dict[str, Any]:
    return {
        "source": source,
        "sessions": 2,
        "optional": True,
        "arrivals": {"kind": "typing", "sessions_per_second": [1]},
        "capacities_bytes": [1e9],
        **options,
    }


def test_each_optional_dataset_gets_an_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_network(name: str, *_: object) -> Path:
        raise DataError(f"{name}: cannot be downloaded")

    monkeypatch.setattr(datasets, "fetch", no_network)
    config = load_config(
        {
            "data_dir": str(tmp_path),
            "datasets": {
                "required": dataset("swebench", optional=False),
                "random": dataset("synthetic"),
                "agents": dataset("swebench"),
                "ready": dataset("lmsys", trace_dir=str(tmp_path)),
                "gone": dataset("lmsys", trace_dir=str(tmp_path / "gone")),
            },
        }
    )
    reasons = check_optional(config)
    assert set(reasons) == {"random", "agents", "ready", "gone"}
    assert reasons["random"] == reasons["ready"] == ""
    assert reasons["agents"] == "swebench: cannot be downloaded"
    assert "gone is not a folder" in reasons["gone"]


def test_reasons_survive_a_round_trip(tmp_path: Path) -> None:
    write_reasons({"a": "", "b": "why"}, tmp_path / "reasons.json")
    assert read_reasons(tmp_path / "reasons.json") == {"a": "", "b": "why"}
