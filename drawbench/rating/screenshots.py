"""Take screenshots of the rating page for the report, in Chromium.

The votes of the study are not touched: a simulated rater uses a temporary database.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from drawbench.rating.serving import page_environment, served
from drawbench.store import Store, open_store
from drawbench.study.folder import SCREENSHOT_FOLDER, Study
from evalkit.core.errors import MissingDataError
from evalkit.core.files import writing
from evalkit.core.registry import require

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
DESKTOP = {"width": 1366, "height": 900}
PHONE = {"width": 390, "height": 844}
PATIENCE_MS = 180_000
"""Generous: the machine may be busy with other things."""
ALL_LOADED = "images => images.length > 0 && images.every(i => i.complete && i.naturalWidth > 0)"

BUTTONS_LABELLED = (
    "() => { const all = [...document.querySelectorAll('[data-testid=stButton] button')];"
    " return all.length > 0 && all.every(button => button.innerText.trim()); }"
)


def take_screenshots(study: Study) -> list[Path]:
    """Take screenshots of the welcome page, and of a rated page on a desktop and on a phone.

    Returns:
        The PNG files, in the study's folder, where the report finds them.

    Raises:
        MissingExtraError: Playwright or the packages of the page are not installed.
        MissingDataError: Chromium is not installed.
    """
    folder = study.path / SCREENSHOT_FOLDER
    with tempfile.TemporaryDirectory() as scratch, _browser() as browser:
        url = f"sqlite:///{scratch}/votes.sqlite"
        store = open_store(study, url, create=True)
        token = _rater_past_practice(store)
        store.database.close()
        with served(page_environment(study.path, url)) as address:
            with writing(folder):
                folder.mkdir(exist_ok=True)
            return [
                _picture(browser, f"{address}/", DESKTOP, folder / "1-welcome.png"),
                _picture(browser, f"{address}/?rater={token}", DESKTOP, folder / "2-desktop.png"),
                _picture(browser, f"{address}/?rater={token}", PHONE, folder / "3-phone.png"),
            ]


@contextmanager
def _browser() -> Iterator[Any]:
    playwright = require("playwright.sync_api", extra="screenshots", what="a screenshot")
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        raise MissingDataError(
            f"No browser found ({', '.join(BROWSERS)}). Install Chromium, or take screenshots "
            "yourself and list them in the file for --card."
        )
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=found, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


def _rater_past_practice(store: Store) -> str:
    joined = store.join(simulated=True)
    for place in store.hand(joined.rater.id):
        if place.item.role == "practice":
            for question in store.study.questions(place.item):
                answer = question.answers[0].value
                store.submit(joined.rater.id, place.cell_id, question.id, answer)
    return joined.token


def _picture(browser: Any, address: str, size: dict[str, int], target: Path) -> Path:
    is_phone = size is PHONE
    context = browser.new_context(
        viewport=size, device_scale_factor=2 if is_phone else 1, has_touch=is_phone
    )
    try:
        context.set_default_timeout(PATIENCE_MS)
        page = context.new_page()
        page.goto(address)
        page.locator("h1, .where").first.wait_for()
        if "rater=" in address:
            page.locator(".thumb img").first.wait_for()
            while not page.locator(".thumb img").evaluate_all(ALL_LOADED):
                page.wait_for_timeout(200)
        page.wait_for_function(BUTTONS_LABELLED)
        page.wait_for_timeout(800)  # fonts and layout settle
        page.screenshot(path=target)
    finally:
        context.close()
    return target
