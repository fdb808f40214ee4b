"""The pages in this process, and in a server with a browser before it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from visitors import Visitor

import drawbench.pages
from drawbench.pages.opening import shared_join_limit, shared_store
from drawbench.rating.session import MIN_VIEW_S, ImagesSeen
from drawbench.store import Store, open_store
from drawbench.study import Study
from drawbench.study.design import load_preset, make_config
from drawbench.study.making import make_study
from drawbench.study.sources import open_source
from drawbench.suites import Suite, make_suite

CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome")
START_TIMEOUT_S = 240.0
"""Generous: the machine may be busy with other things."""

MODELS = ("Zephyrine-XL", "Quokkalith")
"""Names that can't stand in a page by chance."""
ROWS = [
    ('a <b>red</b> car & "two" dogs', "Colors"),
    ("**four** :red[cups] $x^2$", "Colors"),
    ("a green cup", "Colors"),
]


@pytest.fixture
def make_folders(tmp_path: Path) -> Callable[[Suite], dict[str, Path]]:
    """Write two plain images for each prompt of a suite and each model."""

    def make(suite: Suite) -> dict[str, Path]:
        for number, model in enumerate(MODELS):
            for index, prompt in enumerate(suite.prompts):
                for sample in range(2):
                    folder = tmp_path / "runs" / model / prompt.id
                    folder.mkdir(parents=True, exist_ok=True)
                    colour = (200 * number, 60 * index + 40, 90 * sample)
                    Image.new("RGB", (32, 32), colour).save(folder / f"{sample}.png")
        return {model: tmp_path / "runs" / model for model in MODELS}

    return make


@pytest.fixture
def study(tmp_path: Path, make_folders: Callable[[Suite], dict[str, Path]]) -> Study:
    """Three prompts, two images a side; prompts with markup in them."""
    suite = make_suite("hostile", ROWS, source="test")
    sources = [
        open_source(model, folder, suite.prompts, per_prompt=2)
        for model, folder in make_folders(suite).items()
    ]
    config = make_config(
        {
            **load_preset("imagen-drawbench"),
            "models": list(MODELS),
            "images_per_side": 2,
            "raters_per_item": 12,
            "num_practice": 1,
        }
    )
    return make_study(tmp_path / "study", config, suite, sources)


@pytest.fixture
def store(study: Study) -> Iterator[Store]:
    """Its votes, seen from outside the pages."""
    opened = open_store(study, create=True)
    yield opened
    opened.database.close()


@pytest.fixture
def in_process(
    study: Study, store: Store, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Any]]:
    """Run a page's script without a browser."""
    testing = pytest.importorskip("streamlit.testing.v1", reason="needs: pip install '.[app]'")
    monkeypatch.setenv("EVALKIT_STUDY", str(study.path))
    monkeypatch.setenv("EVALKIT_DATABASE", "")
    shared_store.cache_clear()
    shared_join_limit.cache_clear()

    def open_page(name: str, **query: str) -> Any:
        script = Path(drawbench.pages.__path__[0]) / name
        page = testing.AppTest.from_file(str(script), default_timeout=START_TIMEOUT_S)
        for key, value in query.items():
            page.query_params[key] = value
        return page.run()

    yield open_page
    shared_join_limit.cache_clear()
    if shared_store.cache_info().currsize:
        shared_store().database.close()
    shared_store.cache_clear()


@pytest.fixture
def press() -> Callable[[Any, int, int], Any]:
    """Press an answer of a page without a browser, as if its images were there for a while."""

    def press_answer(page: Any, index: int, number: int) -> Any:
        """Press answer `number` (from 1) of question `index` (from 0)."""
        ends = f"-{index}-{number}"
        (button,) = (b for b in page.button if b.key.startswith("answer-") and b.key.endswith(ends))
        visit = page.session_state.visit
        # The page passes over presses that come too soon after it changed.
        visit.last_change -= 2 * MIN_VIEW_S
        cell_id = int(button.key.split("-")[1])
        visit.seen[cell_id] = ImagesSeen(after_s=0.0, num_missing=0)
        return button.click().run()

    return press_answer


@pytest.fixture
def free_port() -> int:
    """A port of this machine that nothing listens on."""
    return _free_port()


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


class Server:
    """A page's server as a process that can be killed and started again on the same port."""

    def __init__(self, script: str, environment: dict[str, str]) -> None:
        self.port = _free_port()
        self.script, self.environment = script, environment
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        command = [sys.executable, "-m", "streamlit", "run", self.script]
        self.process = subprocess.Popen(
            [*command, "--server.port", str(self.port)],
            env={**os.environ, **self.environment, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            try:
                with urllib.request.urlopen(f"{self.url}/_stcore/health", timeout=5):
                    return
            except (urllib.error.URLError, OSError):
                time.sleep(0.3)
        self.kill()
        raise TimeoutError("the page's server did not start")

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()


class Wire:
    """A network between browser and server that can be cut and mended."""

    def __init__(self, target_port: int) -> None:
        self.target_port = target_port
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.is_cut = False
        self.sockets: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def cut(self) -> None:
        """End all connections and let no new one through."""
        self.is_cut = True
        for end in self.sockets:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def mend(self) -> None:
        self.is_cut = False

    def close(self) -> None:
        self.cut()
        self.listener.close()
        for end in self.sockets:
            end.close()

    def _accept(self) -> None:
        while True:
            try:
                browser, _ = self.listener.accept()
            except OSError:
                return
            if self.is_cut:
                browser.close()
                continue
            server = socket.create_connection(("127.0.0.1", self.target_port))
            self.sockets += [browser, server]
            for source, target in ((browser, server), (server, browser)):
                threading.Thread(target=_pump, args=(source, target), daemon=True).start()


def _pump(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    with suppress(OSError):
        target.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def visit(chromium: Any) -> Iterator[Callable[..., Visitor]]:
    """Give people browsers of their own, which are closed after the test."""
    visitors: list[Visitor] = []

    def make(**options: Any) -> Visitor:
        visitors.append(Visitor(chromium, **options))
        return visitors[-1]

    yield make
    for visitor in visitors:
        visitor.close()


@pytest.fixture
def wire(server: Server) -> Iterator[Wire]:
    """A wire to the rating page."""
    made = Wire(server.port)
    yield made
    made.close()


@pytest.fixture
def make_server(study: Study) -> Callable[[str, dict[str, str]], Server]:
    """Make a server of a page of the study; it is not started."""

    def make(script: str, environment: dict[str, str]) -> Server:
        ours = {"EVALKIT_STUDY": str(study.path), "EVALKIT_DATABASE": ""}
        return Server(script, {**ours, **environment})

    return make


@pytest.fixture
def server(make_server: Callable[..., Server], store: Store) -> Iterator[Server]:
    """The rating page of the study."""
    served = make_server(str(Path(drawbench.pages.__path__[0]) / "rate.py"), {})
    served.start()
    yield served
    served.kill()
