"""Back up a study with its votes in one zip file, and restore it, on either database.

    backup.json             version of the tables, which study, how many rows
    tables/NAME.jsonl       one row per line
    study/...               study.json, images.jsonl, images/

Rows are written as text, not as a copy of the database file, so a backup of SQLite can be restored
into PostgreSQL and vice versa. Personal links keep working after a restore, since the hashes of
their tokens are stored with the other rows. Backups of older tables can be restored, too. An image
that is missing from the folder is missing from the backup; the votes are complete without it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from sqlalchemy import Select, insert, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from drawbench.errors import StoreError, StudyError
from drawbench.store.database import newest_revision, open_database
from drawbench.store.hands import KEPT_UNTIL
from drawbench.store.store import Store
from drawbench.store.tables import (
    Base,
    CellRow,
    HistoryRow,
    ItemRow,
    RaterRow,
    ReportRow,
    StudyRow,
    VoteRow,
)
from drawbench.study.folder import DOCUMENT, IMAGE_FOLDER, IMAGE_LIST, Study, load_study
from evalkit.core.errors import MissingDataError
from evalkit.core.files import writing
from evalkit.core.tables import HALF_PAIR

FORMAT = 1
_MOST_INTEGER = 2**63
OLDER_REVISION = "0001"
"""Version of tables before the newest, whose backups can be restored."""
MAX_MEMBER_BYTES = 256 * 2**20  # a larger file in an archive is an attack, not an image

# In this order every row comes after those it refers to. The names are the columns that refer.
TABLES: dict[type[Base], dict[str, type[Base]]] = {
    StudyRow: {},
    ItemRow: {"study_id": StudyRow},
    RaterRow: {"study_id": StudyRow},
    CellRow: {"study_id": StudyRow, "item_id": ItemRow, "rater_id": RaterRow},
    VoteRow: {"rater_id": RaterRow, "item_id": ItemRow, "cell_id": CellRow},
    HistoryRow: {"rater_id": RaterRow, "item_id": ItemRow},
    ReportRow: {"rater_id": RaterRow, "item_id": ItemRow},
}

_MEMBER = re.compile(rf"study/({DOCUMENT}|{IMAGE_LIST}|{IMAGE_FOLDER}/[0-9a-f]{{32}}\.png)")


def back_up(store: Store, target: Path) -> dict[str, int]:
    """Write a study and its votes to a zip file. Raters may continue meanwhile.

    Returns:
        Number of rows by table.

    Raises:
        StoreError: The database does not answer, or the file can't be written.
    """
    target = Path(target)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
            counts = _write_tables(archive, store)
            _write_study(archive, store.study)
            head = {
                "format": FORMAT,
                "revision": newest_revision(),
                "uid": store.study.document.uid,
                "rows": counts,
            }
            archive.writestr("backup.json", json.dumps(head, indent=2) + "\n")
        with temporary.open("rb") as handle:
            os.fsync(handle.fileno())
        temporary.replace(target)
    except OSError as error:
        raise StoreError(f"The backup {target} can't be written ({error.strerror}).") from error
    finally:
        with suppress(OSError):
            temporary.unlink()
    return counts


def restore(source: Path, study_path: Path, url: str = "") -> dict[str, int]:
    """Restore a study from a backup, completely or not at all.

    Args:
        source: The zip file.
        study_path: Folder to make; it must not exist, or be empty.
        url: Database to fill; empty makes the SQLite file in the folder. It may hold other studies.

    Returns:
        Number of rows by table.

    Raises:
        MissingDataError: There is no such file.
        StoreError: The file is not a backup, is damaged or has another version; or the database
            already contains the study.
        StudyError: The folder is in use.
    """
    study_path = Path(study_path)
    if study_path.exists() and (not study_path.is_dir() or any(study_path.iterdir())):
        raise StudyError(f"{study_path} is in use. Restore into a folder that does not exist.")
    temporary = study_path.with_name(f".{study_path.name}.{os.getpid()}.tmp")
    try:
        with _opened(Path(source)) as archive:
            head = _read_head(archive, source)
            revision = str(head["revision"])
            rows = {table: list(_read_rows(archive, table, source, revision)) for table in TABLES}
            _unpack_study(archive, temporary, source)
        study = load_study(temporary)
        _check_counts(head, rows, study, source)
        with writing(study_path):
            if study_path.exists():
                study_path.rmdir()
            temporary.rename(study_path)
        try:
            _insert_all(study_path, url, rows)
        except BaseException:
            shutil.rmtree(study_path, ignore_errors=True)
            raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return {table.__tablename__: len(found) for table, found in rows.items()}


def _write_tables(archive: zipfile.ZipFile, store: Store) -> dict[str, int]:
    counts = {}
    with store.database.reading() as session:
        for table in TABLES:
            rows = [_as_dict(row) for row in session.scalars(_rows_of(table, store.study_id))]
            counts[table.__tablename__] = len(rows)
            text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
            archive.writestr(f"tables/{table.__tablename__}.jsonl", text)
    return counts


def _rows_of(table: type[Base], study_id: int) -> Select[Any]:
    """Yield all rows of a table that belong to a study, oldest first."""
    query: Select[Any] = select(table)
    if table is StudyRow:
        query = query.where(StudyRow.id == study_id)
    elif "study_id" in TABLES[table]:
        query = query.where(table.__table__.c.study_id == study_id)
    else:
        query = query.join(RaterRow, RaterRow.id == table.__table__.c.rater_id)
        query = query.where(RaterRow.study_id == study_id)
    return query.order_by(table.__table__.c.id)


def _as_dict(row: Base) -> dict[str, Any]:
    return {column.name: getattr(row, column.name) for column in row.__table__.columns}


def _write_study(archive: zipfile.ZipFile, study: Study) -> None:
    archive.write(study.path / DOCUMENT, f"study/{DOCUMENT}")
    archive.write(study.path / IMAGE_LIST, f"study/{IMAGE_LIST}")
    for entry in study.images:
        path = study.image_path(entry.key)
        if path is None:
            continue
        # PNG is compressed already.
        name = f"study/{IMAGE_FOLDER}/{entry.key}.png"
        archive.write(path, name, compress_type=zipfile.ZIP_STORED)


def _opened(source: Path) -> zipfile.ZipFile:
    if not source.is_file():
        raise MissingDataError(
            f"{source}: no such file. Give a file written by: evalkit drawbench backup"
        )
    try:
        return zipfile.ZipFile(source)
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError) as error:
        raise StoreError(f"{source} is not a backup ({error}).") from error


def _member(archive: zipfile.ZipFile, name: str, source: Path) -> bytes:
    try:
        if archive.getinfo(name).file_size > MAX_MEMBER_BYTES:
            raise StoreError(f"{source}: {name} is too large for an evalkit backup.")
        return archive.read(name)
    except StoreError:
        raise
    except (KeyError, zipfile.BadZipFile, zlib.error, RuntimeError, OSError, EOFError) as error:
        raise StoreError(f"{source}: {name} is missing or damaged. Use another backup.") from error


def _read_head(archive: zipfile.ZipFile, source: Path) -> dict[str, Any]:
    try:
        head: dict[str, Any] = json.loads(_member(archive, "backup.json", source))
        if not isinstance(head["rows"], dict):
            raise TypeError("rows is no object")
        version, revision = head["format"], head["revision"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise StoreError(f"{source}: backup.json is damaged ({error}).") from error
    if version != FORMAT or revision not in (OLDER_REVISION, newest_revision()):
        raise StoreError(
            f"{source} has format {version} and tables of version {revision}, but this evalkit "
            f"reads format {FORMAT}, up to version {newest_revision()}. Restore it with the "
            "evalkit that wrote it."
        )
    return head


def _upgraded(row: Any, table: type[Base], revision: str) -> Any:
    """Do to a row of a backup what the migrations do to a row of a database."""
    if revision == newest_revision() or not isinstance(row, dict):
        return row
    if table is VoteRow:
        return {**row, "images_missing": None}
    if table is RaterRow and row.get("consented_at") is None:
        return {**row, "lease_until": KEPT_UNTIL}
    return row


def _read_rows(
    archive: zipfile.ZipFile, table: type[Base], source: Path, revision: str
) -> Iterator[dict[str, Any]]:
    wanted = {column.name for column in table.__table__.columns}
    name = f"tables/{table.__tablename__}.jsonl"
    for number, line in enumerate(_member(archive, name, source).splitlines(), start=1):
        try:
            row = _upgraded(json.loads(line), table, revision)
        except (ValueError, RecursionError) as error:
            raise StoreError(f"{source}: {name}, line {number} is damaged ({error}).") from error
        if not isinstance(row, dict) or set(row) != wanted:
            raise StoreError(
                f"{source}: {name}, line {number} has other columns than its table. Use another "
                "backup."
            )
        _check_types(row, table, f"{source}: {name}, line {number}")
        yield row


def _check_types(row: dict[str, Any], table: type[Base], where: str) -> None:
    """Refuse values that the table's columns can't hold."""
    for column in table.__table__.columns:
        value, kind = row[column.name], column.type.python_type
        if value is None and column.nullable:
            continue
        fits = isinstance(value, (int, float) if kind is float else kind)
        if isinstance(value, bool) and kind is not bool:
            fits = False
        if isinstance(value, int) and abs(value) >= _MOST_INTEGER:
            fits = False
        if not fits or (isinstance(value, str) and HALF_PAIR.search(value)):
            raise StoreError(
                f"{where}: {column.name} is {value!r:.40}, expected {kind.__name__}. Use another "
                "backup."
            )


def _unpack_study(archive: zipfile.ZipFile, folder: Path, source: Path) -> None:
    """Extract only members with names that a study can have."""
    for name in archive.namelist():
        if _MEMBER.fullmatch(name):
            target = folder / name.removeprefix("study/")
            content = _member(archive, name, source)
            with writing(target):
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(content)


def _check_counts(
    head: dict[str, Any], rows: dict[type[Base], list[dict[str, Any]]], study: Study, source: Path
) -> None:
    for table, found in rows.items():
        expected = head.get("rows", {}).get(table.__tablename__)
        if expected != len(found):
            raise StoreError(
                f"{source}: table {table.__tablename__} has {len(found)} rows, expected "
                f"{expected}. The file is truncated or was edited. Use another backup."
            )
    if [row["uid"] for row in rows[StudyRow]] != [study.document.uid]:
        raise StoreError(
            f"{source}: its votes belong to another study than the one in it. Use another backup."
        )


def _insert_all(study_path: Path, url: str, rows: dict[type[Base], list[dict[str, Any]]]) -> None:
    database = open_database(url or load_study(study_path).default_database, create=True)
    try:
        with database.writing() as session:
            uid = rows[StudyRow][0]["uid"]
            if session.scalar(select(StudyRow.id).where(StudyRow.uid == uid)):
                raise StoreError(
                    f"{database.name} already contains this study. Give another database."
                )
            _insert_rows(session, rows)
    except SQLAlchemyError as error:
        why = str(error).splitlines()[0][:200]
        raise StoreError(f"The backup is inconsistent ({why}). Use another backup.") from error
    finally:
        database.close()


def _insert_rows(session: Session, rows: dict[type[Base], list[dict[str, Any]]]) -> None:
    """Insert rows under new ids and update the references to them."""
    numbers: dict[type[Base], dict[int, int]] = {}
    for table, pointers in TABLES.items():
        fresh = []
        for row in rows[table]:
            new = {name: value for name, value in row.items() if name != "id"}
            for column, target in pointers.items():
                if row[column] is not None:
                    new[column] = numbers[target].get(row[column])
                    if new[column] is None:
                        raise StoreError(
                            "The backup is inconsistent: a row refers to a missing one. Use "
                            "another backup."
                        )
            fresh.append(new)
        numbers[table] = {}
        if fresh:
            identity = table.__table__.c.id
            statement = insert(table).returning(identity, sort_by_parameter_order=True)
            made = session.execute(statement, fresh).scalars().all()
            old = [row["id"] for row in rows[table]]
            numbers[table] = dict(zip(old, made, strict=True))
