"""The page in Debian's Chromium: it loads nothing, logs nothing and fits a phone."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from drawbench.report.page import render_page
from drawbench.stats.analysis import Analysis

CHROMIUM = shutil.which("chromium")


@pytest.mark.browser
@pytest.mark.skipif(
    CHROMIUM is None, reason="no chromium on this machine: apt-get install chromium"
)
def test_page_fits_and_asks_for_nothing(analysis: Analysis, tmp_path: Path, chromium: Any) -> None:

    file = tmp_path / "report.html"
    file.write_text(render_page(analysis), encoding="utf-8")
    page = chromium.new_page(viewport={"width": 390, "height": 844})
    asked: list[str] = []
    said: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: said.append(message.text))
    page.goto(file.as_uri(), timeout=120_000)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    bar = page.locator("svg.bar").first
    whole = bar.bounding_box()
    parts = [bar.locator(f"rect.{name}").bounding_box() for name in ("a", "tie", "b")]
    page.close()
    assert asked == [file.as_uri()]
    assert said == []
    assert whole is not None
    assert sum(part["width"] for part in parts if part) == pytest.approx(whole["width"], abs=1)
    share = analysis.pairs[0].questions[0].overall.share_a.value
    assert parts[0] is not None
    assert parts[0]["width"] / whole["width"] == pytest.approx(share, abs=0.01)
