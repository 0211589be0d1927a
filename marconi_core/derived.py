"""Checked-in files that are derived from code, kept in step by a test.

``make derived`` (``python -m marconi_core.derived --write``) regenerates the JSON schema and the
option table from the configuration's models, and the conda environments from ``pyproject.toml``.
"""

import argparse
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path

import yaml

from marconi_core.config.documentation import json_schema, option_table
from marconi_core.config.messages import OPTIONS
from marconi_core.files import write_text

SCHEMA = "workflow/schemas/config.schema.json"
ENVIRONMENT = "environment.yml"
RULE_ENVIRONMENT = "workflow/envs/core.yaml"
BEGIN, END = "<!-- options: begin -->", "<!-- options: end -->"


def derived_files(root: Path) -> dict[Path, str]:
    """Return what each derived file below the repository root must hold."""
    readme = (root / OPTIONS).read_text(encoding="utf-8")
    head, tail = readme.split(BEGIN)[0], readme.split(END)[1]
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return {
        root / SCHEMA: json_schema(),
        root / OPTIONS: f"{head}{BEGIN}\n{option_table()}\n{END}{tail}",
        root / ENVIRONMENT: _environment(project, editable=True),
        root / RULE_ENVIRONMENT: _environment(project, editable=False),
    }


def _environment(project: dict[str, object], *, editable: bool) -> str:
    """Return a conda environment: Python from conda, the rest by the bounds of pyproject.toml."""
    dependencies = project["dependencies"]
    assert isinstance(dependencies, list)
    packages = [*dependencies, "--editable ."] if editable else dependencies
    environment = {
        "name": "marconi",
        "channels": ["conda-forge", "nodefaults"],
        "dependencies": [f"python {project['requires-python']}", "pip", {"pip": packages}],
    }
    content = yaml.safe_dump(environment, sort_keys=False)
    return f"# derived from pyproject.toml by `make derived`\n{content}"


def main(argv: Sequence[str] | None = None) -> int:
    """Check the derived files, or write them with ``--write``; return 1 if any is out of step."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--write", action="store_true", help="regenerate the files")
    write = parser.parse_args(argv).write
    stale = [
        (path, text)
        for path, text in derived_files(Path.cwd()).items()
        if not path.exists() or path.read_text(encoding="utf-8") != text
    ]
    for path, text in stale:
        if write:
            write_text(path, text)
        print(f"{path}: {'written' if write else 'out of step, run `make derived`'}")
    return 0 if write else int(bool(stale))


if __name__ == "__main__":
    sys.exit(main())
