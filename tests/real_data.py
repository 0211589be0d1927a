"""Where tests get real data sets from, in any environment that can read them.

They come from the folder that DATA_MIRROR names (`make test DATA_MIRROR=FOLDER` sets it), from
`results/data` of an earlier run, from what the golden tests keep, from `../shared/data` beside the
checkout, or by download.
"""

import os
from pathlib import Path

from marconi_core import datasets

REPOSITORY = Path(__file__).parents[1]
FOLDERS = (
    REPOSITORY / "results" / "data",
    REPOSITORY / ".pytest_cache" / "d" / "marconi-data",
    REPOSITORY.parent / "shared" / "data",
)


def fetch(name: str, folder: Path) -> Path:
    """Bring a registered file into a folder.

    Raises:
        UnavailableError: it cannot be had here and now.
    """
    filename = datasets.lookup(name).filename
    named = os.environ.get("DATA_MIRROR")
    mirrors = ([REPOSITORY / named] if named else []) + [f for f in FOLDERS if f != folder]
    holding = [mirror for mirror in mirrors if any(mirror.glob(f"{filename}*"))]
    return datasets.fetch(name, folder, holding[0] if holding else None)
