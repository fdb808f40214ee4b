"""Fixtures that all tests share. Nothing here imports torch."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"

os.environ.setdefault("HF_HUB_OFFLINE", "1")
settings.register_profile("evalkit", deadline=None)  # a busy machine is no fault of the code
settings.load_profile("evalkit")


@pytest.fixture(autouse=True)
def same_draws() -> None:
    """Draw the same random tensors in each test, whichever tests its process ran before."""
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.manual_seed(0)


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout."""
    return ROOT


@pytest.fixture(scope="session")
def shared() -> Path:
    """Reference values and data kept beside the checkout."""
    if not SHARED.is_dir():
        pytest.skip("no ../shared beside this checkout: its reference values are not part of it")
    return SHARED


@pytest.fixture(autouse=True)
def cache_of_its_own(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keep tests away from the user's cache, and one run from another's."""
    monkeypatch.setenv("EVALKIT_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.delenv("EVALKIT_COCO", raising=False)


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """Debian's Chromium, driven by Playwright: one for all tests, since it allows no second one."""
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="browser tests need: pip install playwright"
    )
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        pytest.skip("browser tests need Chromium: apt-get install chromium")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()
