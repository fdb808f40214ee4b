"""The page in a real browser: offline, without a script, at any width."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from evalkit.reports.html import ComparisonReport, RunReport, write_comparison_html, write_html

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
SLOW_MACHINE_MS = 120_000

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed"),
]


@pytest.fixture(scope="module")
def files(
    report: RunReport, comparison: ComparisonReport, tmp_path_factory: pytest.TempPathFactory
) -> list[Path]:
    folder = tmp_path_factory.mktemp("pages")
    write_html(folder / "report.html", report)
    write_comparison_html(folder / "compare.html", comparison)
    return [folder / "report.html", folder / "compare.html"]


@pytest.mark.parametrize("width", [360, 1280])
def test_pages_fit_fetch_nothing_and_complain_of_nothing(
    chromium: object, files: list[Path], width: int
) -> None:
    for file in files:
        page = chromium.new_page(viewport={"width": width, "height": 800})  # type: ignore[attr-defined]
        page.set_default_timeout(SLOW_MACHINE_MS)
        requests: list[str] = []
        complaints: list[str] = []
        page.on("request", lambda request, seen=requests: seen.append(request.url))
        page.on("console", lambda message, seen=complaints: seen.append(message.text))
        page.on("dialog", lambda dialog, seen=complaints: seen.append(dialog.message))
        page.goto(file.as_uri())
        page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true })")
        overflow = page.evaluate(
            "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        )
        broken = page.evaluate("[...document.images].filter(i => !i.naturalWidth).length")
        page.close()
        assert [url for url in requests if not url.startswith("data:")] == [file.as_uri()]
        assert (overflow, broken, complaints) == (0, 0, [])
