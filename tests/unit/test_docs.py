"""What the pages say exists: links and their anchors, files and modules, targets, commands and options."""

import argparse
import ast
import re
import shlex
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from textwrap import dedent

import pytest
from snakemake.cli import parse_args, parse_config

from marconi_core import cli
from marconi_core.release import __main__ as release
from marconi_core.report.claims import load_claims
from marconi_core.serving import __main__ as serving

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    path
    for folder in (".", "docs", "benchmarks", "resources", "sglang_patch", "workflow")
    for path in ROOT.joinpath(folder).glob("*.md" if folder == "." else "**/*.md")
)
BLOCK = re.compile(r"^ *```.*?^ *```$", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"`([^`]+)`")
EXAMPLE = "marconi_core/policies/catalogue/deepest.py"  # to be written, says docs/extend.md
PLACEHOLDER = re.compile(r"[A-Z]{4,}|[*…{]|\.\.\.")

PARSERS = {
    "marconi": cli._parser,
    "python -m marconi_core.serving": serving._parser,
    "python -m marconi_core.release": release._parser,
}


def page(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def prose(path: Path) -> str:
    return BLOCK.sub("", page(path))


def anchors(path: Path) -> set[str]:
    """Return what GitHub makes of the headings."""
    headings = re.findall(r"^#+ (.*)$", prose(path), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def spans(path: Path) -> Iterator[str]:
    """Yield what stands in backquotes, on one line."""
    for match in SPAN.finditer(prose(path)):
        yield " ".join(match[1].split())


def commands(path: Path) -> Iterator[list[str]]:
    """Yield the words of the commands in code blocks, with the variables that the page sets."""
    text = "\n".join(BLOCK.findall(page(path))).replace("\\\n", " ")
    for name, value in re.findall(r"""^ *([A-Z]+)=["'](.*)["']$""", text, re.MULTILINE):
        text = text.replace(f"${name}", value)
    for line in re.sub(r"\$\w+", "1", text).splitlines():
        if re.match(r" *(?:snakemake|make|marconi|python3?) ", line):
            words = shlex.split(line, comments=True)
            yield ["python" if word == "python3" else word for word in words]


def in_blocks(program: str) -> list[tuple[str, list[str]]]:
    """Return page and words after the program, of its commands in code blocks."""
    start = shlex.split(program)
    return [
        (path.name, words[len(start) :])
        for path in PAGES
        for words in commands(path)
        if words[: len(start)] == start
    ]


def in_prose(program: str) -> list[tuple[str, list[str]]]:
    """Return the same of commands in backquotes, which may be a part of one."""
    return [
        (path.name, shlex.split(span)[len(shlex.split(program)) :])
        for path in PAGES
        for span in spans(path)
        if span.startswith(f"{program} ")
    ]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    dead = []
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(path)):
        if link.startswith("http"):
            continue
        file, _, anchor = link.partition("#")
        target = path.parent / file if file else path
        if not target.exists() or (anchor and anchor not in anchors(target)):
            dead.append(link)
    assert not dead


def test_every_page_can_be_found() -> None:
    linked = {
        (path.parent / link.partition("#")[0]).resolve()
        for path in PAGES
        for link in re.findall(r"\]\(([^)\s]+)\)", prose(path))
    }
    first = ROOT / "README.md"
    assert not [path for path in PAGES if path != first and path.resolve() not in linked]


@pytest.mark.sources
@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_named_files_and_modules_exist(path: Path) -> None:
    folders = "|".join(p.name for p in ROOT.iterdir() if p.is_dir() and p.name != "results")
    missing = []
    for span in spans(path):
        dotted = re.match(r"marconi_core(\.\w+)+", span)
        if dotted and not names_something(dotted[0]):
            missing.append(span)
        if PLACEHOLDER.search(span) or span == EXAMPLE:
            continue
        if re.fullmatch(rf"({folders})/[\w./-]+", span) and not (ROOT / span).exists():
            missing.append(span)
    assert not missing


def test_what_python_code_imports_exists() -> None:
    found = [
        (module, name)
        for path in PAGES
        for block in re.findall(r"^ *```python\n(.*?)^ *```$", page(path), re.MULTILINE | re.DOTALL)
        for node in ast.walk(ast.parse(dedent(block)))
        if isinstance(node, ast.ImportFrom) and (module := node.module or "")
        for name in (alias.name for alias in node.names)
    ]
    assert len(found) > 3
    assert not [one for one in found if not hasattr(import_module(one[0]), one[1])]


def names_something(dotted: str) -> bool:
    """Whether there is such a module, or a module with such a name in it."""
    if find_spec(dotted):
        return True
    module, _, name = dotted.rpartition(".")
    found = find_spec(module)
    return found is not None and name in Path(found.origin or "").read_text(encoding="utf-8")


def test_the_readme_shows_every_claim_that_is_judged_on_data() -> None:
    rows = re.findall(r"^\| Fig\..*$", page(ROOT / "README.md"), re.MULTILINE)
    judged = [claim for claim in load_claims() if claim.paper_dataset == "sharegpt"]
    numbers = set(re.findall(r"[\d.]*\d", "".join(row.partition("|")[2] for row in rows)))
    assert {claim.paper for claim in judged} | {claim.reference for claim in judged} <= numbers
    assert len(judged) == 8 and "8 of 8 ShareGPT claims" in page(ROOT / "README.md")


def test_make_targets_exist() -> None:
    rules = page(ROOT / "Makefile") + page(ROOT / "sglang_patch/Makefile.inc")
    known = set(re.findall(r"^([a-z][\w-]*):", rules, re.MULTILINE))
    wanted = [
        (path, word)
        for path, words in in_blocks("make") + in_prose("make")
        for word in words
        if not re.search(r"[=…]", word)
    ]
    assert len(wanted) > 20
    assert not [(path, word) for path, word in wanted if word not in known]


def test_snakemake_takes_the_commands_as_they_stand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several of its options take all words that follow, a target too."""
    monkeypatch.chdir(ROOT)
    text = "".join(page(path) for path in [ROOT / "Snakefile", *ROOT.glob("workflow/rules/*.smk")])
    rules = set(re.findall(r"^ *(?:rule|checkpoint|use rule \w+ as) (\w+)", text, re.MULTILINE))
    found = in_blocks("snakemake") + in_prose("snakemake")
    assert len(found) > 30
    for path, words in found:
        if "--profile" in words:  # whose executor need not be installed
            place = words.index("--profile")
            assert (ROOT / words[place + 1] / "config.yaml").is_file()
            words[place : place + 2] = ["--cores=1"]
        _, options = parse_args(words)
        parse_config(options.config)
        command = f"{path}: snakemake {' '.join(words)}"
        assert options.cores or options.dryrun or options.unlock, f"{command}: refused"
        targets = {target for target in options.targets if target.isidentifier()}
        assert targets <= rules | {"TARGET"}, command
        files = map(str, options.configfile or [])
        assert all(file == "FILE" or (ROOT / file).is_file() for file in files), command


@pytest.mark.parametrize("program", PARSERS)
def test_pages_that_help_names_explain_the_option(program: str) -> None:
    parser = PARSERS[program]()
    [commands] = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    for command in commands.choices.values():
        for action in command._actions:
            for name in re.findall(r"docs/\w+\.md", action.help or ""):
                assert f"`{action.option_strings[0]} " in page(ROOT / name), action.help


@pytest.mark.parametrize("program", PARSERS)
def test_our_own_commands_and_options_exist(program: str) -> None:
    parser = PARSERS[program]()
    [commands] = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    for path, words in in_prose(program):
        if not PLACEHOLDER.fullmatch(words[0]):
            known = commands.choices[words[0]]._option_string_actions
            unknown = [word for word in words if word.startswith("-") and word not in known]
            assert not unknown, f"{path}: {' '.join(words)}"
    found = in_blocks(program)
    assert found
    for path, words in found:
        try:
            parser.parse_args(words)
        except SystemExit:
            pytest.fail(f"{path}: {' '.join(words)}")
