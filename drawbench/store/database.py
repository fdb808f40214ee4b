"""Open the database of the votes: SQLite by default, PostgreSQL by URL, with the right tables.

On SQLite every writing transaction starts with BEGIN IMMEDIATE. A plain BEGIN takes the write lock
only at the first write, and then fails at once, whatever the timeout, if another writer came in
between; with 25 raters at a time that is most of them. Writers also queue at a lock file beside the
database: SQLite itself lets them poll, and whoever is unlucky starves.
"""

from __future__ import annotations

import fcntl
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
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

SQLITE = "sqlite:///"
BUSY_TIMEOUT_S = 30
POOL_SIZE = 10
POOL_OVERFLOW = 20


class Database:
    """An engine and its two kinds of transactions. Open one with `open_database`."""

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
        """One transaction: all of it is on the disk when the block ends, or none.

        Raises:
            StoreError: The database can't be reached, or refused the transaction.
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
        """One consistent view that blocks no writer.

        Raises:
            StoreError: The database can't be reached.
        """
        with self._naming_faults(), Session(self._reader) as session:
            yield session

    def close(self) -> None:
        """Give all connections back."""
        self.engine.dispose()

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Wait for one's turn to write; the kernel wakes whoever is next, and frees a dead one."""
        if self._queue is None:
            yield
            return
        try:
            handle = self._queue.open("ab")
        except OSError as error:
            raise StoreError(f"{self._queue} can't be written ({error.strerror}).") from error
        with handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield

    @contextmanager
    def _naming_faults(self) -> Iterator[None]:
        try:
            yield
        except IntegrityError:
            raise
        except SQLAlchemyError as error:
            raise StoreError(
                f"the vote store {self.name} does not answer ({_first_line(error)}). "
                "Nothing of this step was stored; try again."
            ) from error


def open_database(url: str, *, create: bool = False) -> Database:
    """Open a database and see to it that its tables are those of this version.

    Args:
        url: `sqlite:///PATH` or `postgresql://USER:PASSWORD@HOST/NAME`.
        create: Make the file and the tables where they are missing, and bring older ones up to
            date.

    Raises:
        StoreError: The URL is of no known kind, the database can't be reached, or has older tables.
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
            f"the vote store {database.name} can't be opened ({_first_line(error)})."
        ) from error
    except (StoreError, MissingDataError):
        engine.dispose()
        raise
    return database


def newest_revision() -> str:
    """The version of the tables that this evalkit writes."""
    head = ScriptDirectory.from_config(_alembic(None)).get_current_head()
    assert head is not None
    return head


def _engine(url: str, *, create: bool) -> Engine:
    if url.startswith(SQLITE):
        # Taken as it stands: a folder's name may hold what would mean something in a URL.
        return _sqlite(url.removeprefix(SQLITE), create=create)
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise StoreError(
            "the database URL can't be read. Expected sqlite:///PATH or "
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
        f"database {parsed.get_backend_name()!r} is not supported. Use sqlite:///PATH or "
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
    """Refuse tables of a newer evalkit, and tables of something else."""
    revision = MigrationContext.configure(connection).get_current_revision()
    if revision is None:
        if "study" in inspect(connection).get_table_names():
            raise StoreError(f"{name} holds tables of another program. Choose another database.")
        return
    known = {
        script.revision for script in ScriptDirectory.from_config(_alembic(None)).walk_revisions()
    }
    if revision not in known:
        raise NewerSchemaError(
            f"{name} has tables of version {revision}, this evalkit knows up to "
            f"{newest_revision()}. Update evalkit; nothing was changed."
        )


def _check_current(connection: Connection, name: str) -> None:
    _check_known(connection, name)
    revision = MigrationContext.configure(connection).get_current_revision()
    if revision is None:
        raise MissingDataError(
            f"{name} holds no votes yet. Make the study with: evalkit drawbench new"
        )
    if revision != newest_revision():
        raise StoreError(
            f"{name} has tables of version {revision}, this evalkit wants {newest_revision()}. "
            "Back it up, then run: evalkit drawbench upgrade STUDY"
        )


def _first_line(error: BaseException) -> str:
    cause: Any = getattr(error, "orig", None) or error
    return (str(cause).strip().splitlines() or [type(cause).__name__])[0][:200]
