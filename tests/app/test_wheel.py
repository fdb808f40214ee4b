"""An installed wheel serves the rating page from any folder and brings no package called app."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from drawbench.store import Store
from drawbench.study import Study

pytest.importorskip("hatchling", reason="needs: pip install '.[dev]'")

START_TIMEOUT_S = 240.0
"""Generous: the machine may be busy with other things."""
PACKAGES = {"drawbench", "evalkit", "generators"}


@pytest.fixture(scope="module")
def wheel(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of the working tree."""
    folder = tmp_path_factory.mktemp("wheel")
    run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)], cwd=root)
    (built,) = folder.glob("evalkit-*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a fresh folder that the wheel is installed in."""
    target = tmp_path_factory.mktemp("site-packages")
    options = ["--quiet", "--no-deps", "--no-index", "--no-compile", "--target", str(target)]
    run([sys.executable, "-m", "pip", "install", *options, str(wheel)], cwd=target)
    return {**os.environ, "PYTHONPATH": str(target), "PYTHONDONTWRITEBYTECODE": "1"}


def run(command: list[str], *, cwd: Path, env: dict[str, str] | None = None) -> str:
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def get(address: str) -> tuple[int, str, bytes]:
    with urllib.request.urlopen(address, timeout=30) as answer:
        return answer.status, answer.headers["content-type"], answer.read()


@pytest.fixture
def served(
    installed: dict[str, str], study: Study, store: Store, tmp_path: Path, free_port: int
) -> Iterator[str]:
    """The rating page of a study, served by the installed command from another folder."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    program = "import sys; from evalkit.cli import main; sys.exit(main())"
    options = ["drawbench", "rate", str(study.path), "--port", str(free_port)]
    process = subprocess.Popen(
        [sys.executable, "-c", program, *options],
        cwd=elsewhere,
        env=installed,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    address = f"http://127.0.0.1:{free_port}"
    try:
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            assert process.poll() is None, "the server ended"
            assert time.monotonic() < deadline, "the server did not start"
            try:
                get(f"{address}/_stcore/health")
                break
            except (urllib.error.URLError, OSError):
                time.sleep(0.3)
        yield address
    finally:
        os.killpg(process.pid, 15)
        process.wait()


def test_the_wheel_holds_our_packages_and_their_data_and_no_app(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    tops = {name.partition("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == PACKAGES
    for data in (
        "pages/.streamlit/config.toml",
        "pages/assets/page.css",
        "report/page.html.jinja",
        "store/migrations/versions/v0001_first.py",
        "study/languages/en.toml",
        "study/presets/imagen-drawbench.toml",
        "suites/prompts/drawbench_rows.tsv",
    ):
        assert f"drawbench/{data}" in names, data


def test_an_installed_wheel_finds_its_migrations(
    installed: dict[str, str], study: Study, tmp_path: Path
) -> None:
    code = "import drawbench; print(drawbench.__file__)"
    found = run([sys.executable, "-c", code], cwd=tmp_path, env=installed)
    assert found.startswith(installed["PYTHONPATH"])
    program = "import sys; from evalkit.cli import main; sys.exit(main())"
    database = ["--database", f"sqlite:///{tmp_path / 'other.sqlite'}"]
    command = [sys.executable, "-c", program, "drawbench", "upgrade", str(study.path), *database]
    run(command, cwd=tmp_path, env=installed)
    assert (tmp_path / "other.sqlite").is_file()


def test_an_installed_wheel_serves_a_page_from_elsewhere(served: str, study: Study) -> None:
    status, kind, body = get(f"{served}/")
    assert (status, kind.partition(";")[0]) == (200, "text/html")
    assert b"<html" in body
    status, kind, body = get(f"{served}/picture/{study.images[0].key}")
    assert (status, kind) == (200, "image/png")
    assert body.startswith(b"\x89PNG")
