"""Tokens planted in the environment, and a search for them in whatever a command leaves behind."""

import gzip
import lzma
import zipfile
from pathlib import Path

import pandas as pd
import pytest

SECRET = "hf_planted0nobody1may2read3this4"
VARIABLES = {
    "HF_TOKEN": SECRET,
    "HUGGING_FACE_HUB_TOKEN": SECRET,
    "GITHUB_TOKEN": SECRET,
    "AWS_SECRET_ACCESS_KEY": SECRET,
    "PIP_INDEX_URL": f"https://user:{SECRET}@127.0.0.1:9/simple",
}
"""Where users keep their tokens."""


def plant(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the variables for the rest of a test."""
    for name, value in VARIABLES.items():
        monkeypatch.setenv(name, value)


def holders(folder: Path) -> list[str]:
    """Return the files below a folder in which the secret stands, compressed or not."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    assert files, f"nothing to search in {folder}"
    return [path.relative_to(folder).as_posix() for path in files if SECRET in _text(path)]


def _text(path: Path) -> str:
    if path.suffix == ".parquet":
        return pd.read_parquet(path).to_csv()
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            return "".join(archive.read(n).decode(errors="replace") for n in archive.namelist())
    content = path.read_bytes()
    for opener in (gzip.decompress, lzma.decompress):
        try:
            content = opener(content)
        except (OSError, EOFError, lzma.LZMAError):
            continue
    return content.decode(errors="replace")
