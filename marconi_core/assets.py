"""Where the files of `resources/` are, in a checkout and in an installed wheel alike."""

from pathlib import Path

PACKAGE = Path(__file__).parent


def resource(name: str) -> Path:
    """Return the path of a file below `resources/`, e.g. ``resource("datasets.csv")``.

    A wheel carries the folder inside the package; a checkout has it beside the package.
    """
    inside = PACKAGE / "resources"
    return (inside if inside.is_dir() else PACKAGE.parent / "resources") / name
