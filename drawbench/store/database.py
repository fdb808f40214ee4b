"""Open the database of the votes: SQLite by default, PostgreSQL by URL, with the right tables.

On SQLite every writing transaction starts with BEGIN IMMEDIATE. A plain BEGIN takes the write lock
only at the first write, and then fails at once, whatever the timeout, if another writer came in
between; with 25 concurrent raters most would fail. Writers also queue at a lock file beside the
database (`turns.py`). Queue and database share one deadline: whoever waits is told within
`BUSY_TIMEOUT_S`, however many wait before them.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from importlib.resources import files
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import URL, Connection, Engine, create_engine, event, inspect, make_url
from sqlalchemy.exc import ArgumentError, IntegrityError, SQLAlchemyError
from sqlalchemy.orm import Session

from drawbench.errors import NewerSchemaError, StoreError
from drawbench.store.turns import turn
from evalkit.core.errors import MissingDataError, MissingExtraError

SQLITE = "sqlite:///"
BUSY_TIMEOUT_S = 30
"""Longest time that a step waits for the database, its queue included."""
POOL_SIZE = 10
POOL_OVERFLOW = 20


class Database:
    """An engine with its two kinds of transactions. Open one with `open_database`."""

    def __init__(self, engine: Engine, name: str, url: str) -> None:
        self.engine = engine
        self.name = name
        """URL without the password, for messages."""
        self.url = url
        """URL that it was opened with."""
        self._reader = engine.execution_options(read_only=True)
        self._queue: Path | None = None
        if engine.dialect.name == "sqlite":
            self._queue = Path(f"{engine.url.database}.queue")
        if engine.dialect.name == "postgresql":
            self._reader = self._reader.execution_options(isolation_level="REPEATABLE READ")

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """Open one transaction: when the block ends, all of it is on the disk, or none.

        Raises:
            StoreError: The database can't be reached in time, or refuses the transaction.
        """
        deadline = time.monotonic() + BUSY_TIMEOUT_S
        writer = self.engine.execution_options(deadline=deadline)
        in_turn = turn(self._queue, deadline) if self._queue else nullcontext()
        with self._naming_faults(), in_turn, Session(writer) as session, session.begin():
            yield session

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """Open one consistent view that blocks no writer.

        Raises:
            StoreError: The database can't be reached.
        """
        with self._naming_faults(), Session(self._reader) as session:
            yield session

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()

    @contextmanager
    def _naming_faults(self) -> Iterator[None]:
        try:
            yield
        except IntegrityError:
            raise
        except SQLAlchemyError as error:
            raise StoreError(
                f"The vote store {self.name} does not respond ({_first_line(error)}). This step "
                "stored nothing. Try again."
            ) from error


def open_database(url: str, *, create: bool = False) -> Database:
    """Open a database and ensure that its tables have the current version.

    Tables of an older evalkit are upgraded; what they contain stays as it is.

    Args:
        url: `sqlite:///PATH` or `postgresql://USER:PASSWORD@HOST/NAME`.
        create: Create missing files and tables.

    Raises:
        StoreError: The URL has an unknown form, or the database can't be reached or upgraded.
        NewerSchemaError: A newer evalkit wrote it.
        MissingDataError: There is no store yet.
    """
    engine = _engine(url, create=create)
    database = Database(engine, engine.url.render_as_string(hide_password=True), url)
    try:
        with engine.execution_options(read_only=True).connect() as connection:
            revision = _revision(connection, database.name)
        if revision is None and not create:
            raise MissingDataError(
                f"{database.name} contains no votes yet. Make the study with: evalkit drawbench new"
            )
        if revision != newest_revision():
            with engine.begin() as connection:
                _upgrade(connection, database.name)
    except SQLAlchemyError as error:
        engine.dispose()
        raise StoreError(
            f"The vote store {database.name} can't be opened ({_first_line(error)})."
        ) from error
    except (StoreError, MissingDataError):
        engine.dispose()
        raise
    return database


def newest_revision() -> str:
    """Return the version of the tables that this evalkit writes."""
    head = ScriptDirectory.from_config(_alembic(None)).get_current_head()
    assert head is not None
    return head


def _engine(url: str, *, create: bool) -> Engine:
    if url.startswith(SQLITE):
        # Taken literally: a folder's name may contain characters with a meaning in URLs.
        return _sqlite(url.removeprefix(SQLITE), create=create)
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise StoreError(
            "The database URL can't be parsed. Expected sqlite:///PATH or "
            "postgresql://USER:PASSWORD@HOST/NAME."
        ) from None
    if parsed.get_backend_name() in ("postgresql", "postgres"):
        try:
            return create_engine(
                parsed.set(drivername="postgresql+psycopg"),
                pool_pre_ping=True,
                pool_size=POOL_SIZE,
                max_overflow=POOL_OVERFLOW,
                connect_args=_deadlines(parsed),
            )
        except ImportError:
            raise MissingExtraError("a PostgreSQL store", "postgresql") from None
    raise StoreError(
        f"Database {parsed.get_backend_name()!r} is not supported. Use sqlite:///PATH or "
        "postgresql://USER:PASSWORD@HOST/NAME."
    )


def _deadlines(url: URL) -> dict[str, object]:
    """Return the options that end a wait for PostgreSQL; those in the URL take precedence."""
    wanted = {
        "connect_timeout": BUSY_TIMEOUT_S,
        "options": f"-c lock_timeout={1000 * BUSY_TIMEOUT_S}",
    }
    return {name: value for name, value in wanted.items() if name not in url.query}


def _sqlite(path: str, *, create: bool) -> Engine:
    mode = "rwc" if create else "rw"

    def connect() -> sqlite3.Connection:
        # Autocommit mode: the begin event below opens the transactions.
        connection = sqlite3.connect(
            f"file:{_quoted(path)}?mode={mode}",
            uri=True,
            timeout=BUSY_TIMEOUT_S,
            isolation_level=None,
            check_same_thread=False,
        )
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA foreign_keys=ON")
        return connection

    engine = create_engine(
        URL.create("sqlite", database=path),
        creator=connect,
        pool_size=POOL_SIZE,
        max_overflow=POOL_OVERFLOW,
    )

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        options = connection.get_execution_options()
        left_s = options.get("deadline", time.monotonic() + BUSY_TIMEOUT_S) - time.monotonic()
        connection.exec_driver_sql(f"PRAGMA busy_timeout = {max(1, round(1000 * left_s))}")
        connection.exec_driver_sql("BEGIN" if options.get("read_only") else "BEGIN IMMEDIATE")

    return engine


def _quoted(path: str) -> str:
    return path.replace("%", "%25").replace("?", "%3f").replace("#", "%23")


def _alembic(connection: Connection | None) -> Config:
    config = Config()
    location = str(files("drawbench.store") / "migrations")
    config.set_main_option("script_location", location.replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def _revision(connection: Connection, name: str) -> str | None:
    """Return the version of the tables, or None where there are none.

    Raises:
        NewerSchemaError: They are those of a newer evalkit.
        StoreError: They are those of another program.
    """
    revision = MigrationContext.configure(connection).get_current_revision()
    if revision is None:
        if "study" in inspect(connection).get_table_names():
            raise StoreError(f"{name} contains tables of another program. Choose another database.")
        return None
    known = {
        script.revision for script in ScriptDirectory.from_config(_alembic(None)).walk_revisions()
    }
    if revision not in known:
        raise NewerSchemaError(
            f"{name} has tables of version {revision}, but this evalkit supports up to "
            f"{newest_revision()}. Update evalkit; nothing was changed."
        )
    return revision


def _upgrade(connection: Connection, name: str) -> None:
    """Bring the tables to the newest version, one process at a time."""
    if connection.dialect.name == "postgresql" and _revision(connection, name) is not None:
        connection.exec_driver_sql("LOCK TABLE alembic_version IN ACCESS EXCLUSIVE MODE")
    _revision(connection, name)  # another process may have changed it meanwhile
    command.upgrade(_alembic(connection), "head")


def _first_line(error: BaseException) -> str:
    cause: Any = getattr(error, "orig", None) or error
    return (str(cause).strip().splitlines() or [type(cause).__name__])[0][:200]
