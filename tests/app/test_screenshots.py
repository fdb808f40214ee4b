"""`evalkit drawbench screenshots`: pictures of the page that leave the votes alone."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from drawbench.cli import app
from drawbench.exchange.exports import raters_frame
from drawbench.rating.screenshots import BROWSERS
from drawbench.report.study import card_of
from drawbench.store import Store
from drawbench.study import Study
from evalkit.core.errors import MissingDataError

pytest.importorskip("playwright.sync_api", reason="needs: pip install playwright")


@pytest.mark.browser
@pytest.mark.xdist_group("browser")
@pytest.mark.skipif(
    not any(map(shutil.which, BROWSERS)), reason="needs Debian's Chromium: apt-get install chromium"
)
def test_pictures_are_taken_on_a_store_of_their_own(study: Study, store: Store) -> None:
    code = "from drawbench.cli import app; app()"
    command = [sys.executable, "-c", code, "screenshots", str(study.path)]
    # A process of its own, since Playwright allows no second browser in one.
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    welcome, desktop, phone = study.screenshots()
    assert [str(path) for path in (welcome, desktop, phone)] == done.stdout.split()
    with Image.open(desktop) as wide, Image.open(phone) as tall:
        assert wide.width > wide.height
        assert tall.height > tall.width
        assert len(wide.convert("RGB").getcolors(2**24) or ()) > 20, "not a blank page"
    assert raters_frame(store).empty, "nobody joined the study itself"
    assert card_of(store).screenshots == (welcome, desktop, phone)


def test_without_a_browser_the_remedy_is_named(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    done = CliRunner().invoke(app, ["screenshots", str(study.path)])
    assert isinstance(done.exception, MissingDataError)
    assert "Install Chromium" in str(done.exception)
    assert study.screenshots() == []


def test_links_among_the_pictures_are_not_followed(study: Study, tmp_path: Path) -> None:
    secret = tmp_path / "secret.png"
    Image.new("RGB", (4, 4)).save(secret)
    folder = study.path / "screenshots"
    folder.mkdir()
    (folder / "a.png").symlink_to(secret)
    assert study.screenshots() == []
