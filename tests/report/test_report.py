"""The report as a reviewer opens it: in a real browser, without a network.

``MARCONI_REPORT`` names a finished report to look at instead of the smoke run's;
``MARCONI_SCREENSHOTS`` a folder that gets pictures of what was seen.
"""

import asyncio
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.planted import SECRET, VARIABLES

from .browser import Page, chromium, find_chromium

CHROMIUM = find_chromium()
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on the path or in MARCONI_CHROMIUM"),
]
CATEGORIES = {"Figures", "Claims", "Live", "Beyond the paper", "Traces"}
FIGURES = {
    *("fig3b", "fig5", "fig6", "fig7", "fig8", "fig10", "fig11", "fig12a", "fig12b"),
    *("fig13a", "fig13b", "fig14", "policies", "alpha", "live_ttft", "live_replays"),
}

# Shows a figure as its button does; returns its size, and how much of it is not background.
SHOW_FIGURE = """(async path => {
    app.setView({content: "img", contentPath: results[path].data_uri, resultPath: path});
    await new Promise(done => setTimeout(done, 50));
    const image = document.querySelector(".grow.h-screen img");
    await image.decode();
    const box = image.getBoundingClientRect();
    const canvas = new OffscreenCanvas(image.naturalWidth, image.naturalHeight);
    const context = canvas.getContext("2d");
    context.drawImage(image, 0, 0);
    const pixels = new Uint32Array(
        context.getImageData(0, 0, canvas.width, canvas.height).data.buffer);
    const inked = pixels.filter(pixel => pixel !== 0xffffffff && pixel >>> 24 > 0).length;
    return {width: box.width, height: box.height, top: box.top, inked: inked / pixels.length};
})(%r)"""

# Shows a page as its button does; returns the rows of its tables.
SHOW_PAGE = """(async path => {
    app.setView({content: "html", contentPath: results[path].data_uri, resultPath: path});
    await new Promise(done => setTimeout(done, 300));
    const text = await (await fetch(document.querySelector("iframe").src)).text();
    return new DOMParser().parseFromString(text, "text/html").querySelectorAll("tr").length;
})(%r)"""

FRONT = """(() => {
    const tables = [...document.querySelectorAll(".verdicts table")];
    const box = tables[0].getBoundingClientRect();
    return {
        heads: [...tables[0].querySelectorAll("th")].map(cell => cell.innerText),
        rows: tables.map(table => table.querySelectorAll("tbody tr").length),
        text: document.querySelector(".prose").innerText,
        top: document.querySelector(".prose").getBoundingClientRect().top,
        right: box.right, window: innerWidth,
    };
})()"""


@pytest.fixture(scope="module")
def report(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished report: the one that was named, or the smoke run's."""
    if named := os.environ.get("MARCONI_REPORT"):
        return Path(named).resolve()
    checkout = tmp_path_factory.mktemp("report")
    shutil.copy(repository / "Snakefile", checkout)
    shutil.copytree(repository / "workflow", checkout / "workflow")
    snakemake = [sys.executable, "-m", "snakemake", "--cores", "2", "--quiet", "all"]
    snakemake += ["--scheduler", "greedy", "--configfile", "workflow/config/smoke.yaml"]
    for ending in ([], ["--report", "report.html"]):
        environment = {**os.environ, **VARIABLES}
        subprocess.run([*snakemake, *ending], cwd=checkout, env=environment, check=True)
    return checkout / "report.html"


async def _look(report: Path, profile: Path, pictures: Path) -> dict[str, Any]:
    """Open the report, then everything in it; return what was seen."""
    assert CHROMIUM is not None
    async with chromium(CHROMIUM, profile) as page:
        await page.open(report.as_uri())
        await page.run("new Promise(done => setTimeout(done, 500))")
        await page.screenshot(pictures / "front.png")
        seen = {"front": await page.run(FRONT), "categories": set(await _keys(page, "categories"))}
        seen["figures"], seen["pages"] = {}, {}
        for path in await _keys(page, "results"):
            kind, script = (
                ("figures", SHOW_FIGURE) if path.endswith(".svg") else ("pages", SHOW_PAGE)
            )
            seen[kind][path] = await page.run(script % path)
            await page.screenshot(pictures / f"{Path(path).name}.png")
        return seen | {"errors": page.errors, "requested": page.requested}


async def _keys(page: Page, name: str) -> list[str]:
    return list(await page.run(f"Object.keys({name})"))


@pytest.fixture(scope="module")
def seen(report: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a browser shows of the report."""
    folder = tmp_path_factory.mktemp("browser")
    pictures = Path(os.environ.get("MARCONI_SCREENSHOTS", folder))
    pictures.mkdir(parents=True, exist_ok=True)
    return asyncio.run(_look(report, folder / "profile", pictures))


def test_the_report_tells_no_tokens(report: Path) -> None:
    assert SECRET not in report.read_text(encoding="utf-8")


def test_the_verdict_table_is_on_the_first_page(seen: dict[str, Any]) -> None:
    front = seen["front"]
    assert {"claim", "paper", "simulated", "live", "verdict (simulated)", "rerun", "min"} <= set(
        front["heads"]
    )
    assert front["rows"][0] >= 4, "formulas at least are judged"
    assert "reproduced" in front["text"]
    assert front["top"] >= 0, "nothing is above the edge of the window, where no one can scroll"
    assert front["right"] <= front["window"]


def test_every_figure_is_visible(seen: dict[str, Any]) -> None:
    assert seen["categories"] == CATEGORIES
    assert FIGURES <= {Path(path).stem for path in seen["figures"]}
    for path, figure in seen["figures"].items():
        assert figure["width"] > 200 and figure["height"] > 100, path
        assert figure["top"] >= 0, f"{path} is cut off at the top"
        assert figure["inked"] > 0.005, f"{path} is blank"


def test_every_page_has_its_tables(seen: dict[str, Any]) -> None:
    rows = {Path(path).name: count for path, count in seen["pages"].items()}
    assert rows["claims.html"] > 60 and rows["live.html"] > 5
    assert min(rows.values()) > 3


def test_nothing_is_fetched_and_nothing_goes_wrong(report: Path, seen: dict[str, Any]) -> None:
    outside = [
        url
        for url in seen["requested"]
        if not url.startswith(("data:", "blob:", "about:")) and url != report.as_uri()
    ]
    assert outside == []
    assert seen["errors"] == []
