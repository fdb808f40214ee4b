"""Open the database of the votes: SQLite by default, PostgreSQL by URL, with the right tables.

On SQLite every writing transaction starts with BEGIN IMMEDIATE. A plain BEGIN takes the write lock
only at the first write, and then fails at once, whatever the timeout, if another writer came in
between; with 25 concurrent raters most would fail. Writers also queue at a lock file beside the
database: SQLite itself makes them poll, and an unlucky writer starves.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
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
from evalkit.core.errors import MissingDataError, MissingExtraError
from evalkit.core.locks import locked

SQLITE = "sqlite:///"
BUSY_TIMEOUT_S = 30
POOL_SIZE = 10
POOL_OVERFLOW = 20


class Database:
    """An engine with its two kinds of transactions. Open one with `open_database`."""

    def __init__(self, engine: Engine, name: str) -> None:
        self.engine = engine
        self.name = name
        """URL without the password, for messages."""
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
            StoreError: The database can't be reached, or refuses the transaction.
        """
        with (
            self._naming_faults(),
            self._turn(),
            Session(self.engine) as session,
            session.begin(),
        ):
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
    def _turn(self) -> Iterator[None]:
        """Wait for the turn to write; the kernel releases the lock of a dead writer."""
        if self._queue is None:
            yield
            return
        with ExitStack() as held:
            try:
                held.enter_context(locked(self._queue, wait=True))
            except OSError as error:
                raise StoreError(f"{self._queue} can't be written ({error.strerror}).") from error
            yield

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

    Args:
        url: `sqlite:///PATH` or `postgresql://USER:PASSWORD@HOST/NAME`.
        create: Create missing files and tables, and upgrade older tables.

    Raises:
        StoreError: The URL has an unknown form, the database can't be reached, or its tables are
            older.
        NewerSchemaError: A newer evalkit wrote it.
        MissingDataError: There is no store yet.
    """
    engine = _engine(url, create=create)
    database = Database(engine, engine.url.render_as_string(hide_password=True))
    try:
        if create:
            with engine.begin() as connection:
                _check_known(connection, database.name)
                command.upgrade(_alembic(connection), "head")
        with engine.connect() as connection:
            _check_current(connection, database.name)
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
            )
        except ImportError:
            raise MissingExtraError("a PostgreSQL store", "postgresql") from None
    raise StoreError(
        f"Database {parsed.get_backend_name()!r} is not supported. Use sqlite:///PATH or "
        "postgresql://USER:PASSWORD@HOST/NAME."
    )


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
        reading = connection.get_execution_options().get("read_only")
        connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")

    return engine


def _quoted(path: str) -> str:
    return path.replace("%", "%25").replace("?", "%3f").replace("#", "%23")


def _alembic(connection: Connection | None) -> Config:
    config = Config()
    location = str(files("drawbench.store") / "migrations")
    config.set_main_option("script_location", location.replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def _check_known(connection: Connection, name: str) -> None:
    """Refuse tables of a newer evalkit, and tables of other programs."""
    revision = MigrationContext.configure(connection).get_current_revision()
    if revision is None:
        if "study" in inspect(connection).get_table_names():
            raise StoreError(f"{name} contains tables of another program. Choose another database.")
        return
    known = {
        script.revision for script in ScriptDirectory.from_config(_alembic(None)).walk_revisions()
    }
    if revision not in known:
        raise NewerSchemaError(
            f"{name} has tables of version {revision}, but this evalkit supports up to "
            f"{newest_revision()}. Update evalkit; nothing was changed."
        )


def _check_current(connection: Connection, name: str) -> None:
    _check_known(connection, name)
    revision = MigrationContext.configure(connection).get_current_revision()
    if revision is None:
        raise MissingDataError(
            f"{name} contains no votes yet. Make the study with: evalkit drawbench new"
        )
    if revision != newest_revision():
        raise StoreError(
            f"{name} has tables of version {revision}, but this evalkit needs "
            f"{newest_revision()}. Back it up, then run: evalkit drawbench upgrade STUDY"
        )


def _first_line(error: BaseException) -> str:
    cause: Any = getattr(error, "orig", None) or error
    return (str(cause).strip().splitlines() or [type(cause).__name__])[0][:200]
