"""Tables and migrations agree; newer, older and foreign databases are refused; writers queue."""

from __future__ import annotations

import fcntl
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine, inspect, make_url, text

import drawbench.store.database
from drawbench.errors import NewerSchemaError, StoreError
from drawbench.store import Store, open_store
from drawbench.store.database import (
    BUSY_TIMEOUT_S,
    _deadlines,
    newest_revision,
    open_database,
)
from drawbench.store.tables import Base
from drawbench.study import Study
from evalkit.core.errors import MissingDataError


def test_the_migrations_make_the_tables_that_the_program_uses(database_url: str) -> None:
    database = open_database(database_url, create=True)
    with database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []
    database.close()


def _dump(database_url: str) -> dict[str, tuple[list[object], list[str], list[str]]]:
    """Columns, indexes and rows of every table, without the program's own way of opening."""
    url = make_url(database_url)
    driver = "postgresql+psycopg" if url.get_backend_name().startswith("postgres") else "sqlite"
    engine = create_engine(url.set(drivername=driver))
    try:
        with engine.connect() as connection:
            look = inspect(connection)
            return {
                name: (
                    [(column["name"], str(column["type"])) for column in look.get_columns(name)],
                    sorted(str(index) for index in look.get_indexes(name)),
                    sorted(map(str, connection.execute(text(f'SELECT * FROM "{name}"')).all())),
                )
                for name in sorted(look.get_table_names())
            }
    finally:
        engine.dispose()


def test_opening_again_changes_nothing(
    database_url: str, new_study: Callable[..., Study], rate_all: Callable[..., None]
) -> None:
    study = new_study()
    store = open_store(study, database_url, create=True)
    rate_all(store, store.join(simulated=True).rater.id)
    store.database.close()
    before = _dump(database_url)
    assert {"alembic_version", *Base.metadata.tables} == set(before)
    assert all(before[name][2] for name in ("alembic_version", "study", "rater", "vote"))
    for create in (True, True, False):
        open_database(database_url, create=create).close()
        assert _dump(database_url) == before
        open_store(study, database_url, create=create).database.close()
        assert _dump(database_url) == before


def test_a_dump_sees_one_changed_row(database_url: str, new_study: Callable[..., Study]) -> None:
    open_store(new_study(), database_url, create=True).database.close()
    before = _dump(database_url)
    database = open_database(database_url)
    with database.engine.begin() as connection:
        connection.execute(text("UPDATE study SET num_joined = num_joined + 1"))
    database.close()
    assert _dump(database_url) != before


def test_a_newer_database_is_refused_and_left_alone(database_url: str) -> None:
    database = open_database(database_url, create=True)
    with database.engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    database.close()
    for create in (True, False):
        with pytest.raises(
            NewerSchemaError, match=r"version 9999, but this evalkit supports up to 0002"
        ):
            open_database(database_url, create=create)


def test_tables_of_another_program_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE study (name TEXT)")
    connection.close()
    with pytest.raises(StoreError, match="tables of another program"):
        open_database(f"sqlite:///{path}", create=True)


def test_a_database_that_is_not_there_is_not_made_by_looking(tmp_path: Path) -> None:
    path = tmp_path / "none.sqlite"
    with pytest.raises((StoreError, MissingDataError)):
        open_database(f"sqlite:///{path}")
    assert not path.exists()


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("nonsense", "can't be parsed"),
        ("mysql://root:secret@localhost/x", "'mysql' is not supported"),
    ],
)
def test_strange_urls_are_refused_without_repeating_the_password(url: str, message: str) -> None:
    with pytest.raises(StoreError, match=message) as caught:
        open_database(url)
    assert "secret" not in str(caught.value)


def test_a_server_that_does_not_answer_is_named_without_its_password() -> None:
    pytest.importorskip("psycopg", reason="needs the extra: pip install '.[postgresql]'")
    with pytest.raises(StoreError, match="can't be opened") as caught:
        open_database("postgresql://someone:secret@127.0.0.1:1/x")
    assert "secret" not in str(caught.value)


def test_sqlite_writes_ahead_and_syncs(new_study: Callable[..., Study], tmp_path: Path) -> None:
    database = open_database(f"sqlite:///{tmp_path / 'x y#1?.sqlite'}", create=True)
    with database.engine.connect() as connection:
        assert connection.execute(text("PRAGMA journal_mode")).scalar() == "wal"
        assert connection.execute(text("PRAGMA synchronous")).scalar() == 2
        assert connection.execute(text("PRAGMA foreign_keys")).scalar() == 1
    database.close()
    assert (tmp_path / "x y#1?.sqlite").is_file()


def test_readers_are_not_held_up_by_a_writer(new_study: Callable[..., Study]) -> None:
    store = open_store(new_study(), create=True)
    with store.database.writing():
        assert store.find_rater("x") is None
    store.database.close()


def test_a_killed_writer_holds_nobody_up(new_study: Callable[..., Study]) -> None:
    """A process is killed in the middle of a transaction; the next vote goes through at once."""
    study = new_study()
    store = open_store(study, create=True)
    rater = store.join().rater
    script = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from sqlalchemy import create_engine, inspect, make_url, text\n"
        "from drawbench.store.database import open_database\n"
        "database = open_database(sys.argv[1])\n"
        "with database.writing() as session:\n"
        "    session.execute(text('UPDATE study SET num_joined = 99'))\n"
        "    print('inside', flush=True)\n"
        "    time.sleep(600)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, study.default_database], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "inside\n"
        process.kill()
    place = store.hand(rater.id)[0]
    assert store.submit(rater.id, place.cell_id, "quality", "tie").outcome == "recorded"
    assert store.join().rater.number == 2, "what the killed process wrote is gone"
    store.database.close()


@pytest.fixture
def short_wait(monkeypatch: pytest.MonkeyPatch) -> float:
    """Make the deadline of a step a second."""
    monkeypatch.setattr(drawbench.store.database, "BUSY_TIMEOUT_S", 1)
    return 1.0


def _told_after(store: Store) -> float:
    started = time.monotonic()
    with pytest.raises(StoreError, match="does not respond"):
        store.join()
    return time.monotonic() - started


def test_a_queue_that_does_not_move_is_given_up_at_the_deadline(
    new_study: Callable[..., Study], short_wait: float
) -> None:
    """A command is suspended in the middle of its turn."""
    store = open_store(new_study(), create=True)
    with Path(f"{store.study.path}/study.sqlite.queue").open("ab") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert short_wait <= _told_after(store) < 3 * short_wait
    assert store.join().rater.number == 1, "nothing of the refused step was stored"
    store.database.close()


def test_all_who_wait_for_a_locked_database_are_told_at_the_same_deadline(
    new_study: Callable[..., Study], short_wait: float
) -> None:
    """The k-th in the queue used to wait k times as long."""
    store = open_store(new_study(), create=True)
    waited: list[float] = []
    with sqlite3.connect(store.study.path / "study.sqlite", isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        threads = [
            threading.Thread(target=lambda: waited.append(_told_after(store))) for _ in range(5)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    other.close()
    assert len(waited) == 5
    assert max(waited) < 3 * short_wait
    store.database.close()


def test_postgresql_is_given_the_same_deadline() -> None:
    url = make_url("postgresql://u@h/db?connect_timeout=5")
    assert _deadlines(url) == {"options": f"-c lock_timeout={1000 * BUSY_TIMEOUT_S}"}


def test_a_transaction_that_fails_leaves_nothing(
    new_study: Callable[..., Study], new_store: Callable[[Study], Store]
) -> None:
    store = new_store(new_study())

    def fail() -> None:
        with store.database.writing() as session:
            session.execute(text("UPDATE study SET num_joined = 99"))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    with store.database.reading() as session:
        assert session.execute(text("SELECT num_joined FROM study")).scalar() == 0


def test_there_is_one_newest_version() -> None:
    assert newest_revision() == "0002"
