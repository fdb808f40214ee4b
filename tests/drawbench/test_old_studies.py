"""Studies of an older evalkit are opened, upgraded and restored."""

from __future__ import annotations

import json
import shutil
import sqlite3
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from sqlalchemy import create_engine, make_url, text

from drawbench.errors import RefusedError
from drawbench.exchange.exports import votes_frame
from drawbench.store import Store, open_store
from drawbench.store.backup import back_up, restore
from drawbench.store.database import _alembic, newest_revision
from drawbench.store.registration import document_sha256
from drawbench.study import Study, load_study
from drawbench.study.folder import DOCUMENT
from drawbench.study.texts import english

NewStudy = Callable[..., Study]
LATER_TEXTS = {
    "rating": ["translated"],
    "images": ["loading", "missing", "try_again", "report_missing", "skip"],
    "report": ["cancel"],
    "errors": ["bad_platform_id", "too_many_joins", "images_not_seen"],
}


def _downgrade(url: str) -> None:
    """Make the tables those of the first version, with what they contain."""
    parsed = make_url(url)
    driver = "postgresql+psycopg" if parsed.get_backend_name().startswith("postgres") else "sqlite"
    engine = create_engine(parsed.set(drivername=driver))
    with engine.begin() as connection:
        command.downgrade(_alembic(connection), "0001")
    engine.dispose()


def test_an_older_database_is_upgraded_when_it_is_opened(
    new_study: NewStudy, database_url: str, rate_all: Callable[..., None]
) -> None:
    study = new_study(rows=[("one", "x")], raters_per_item=2)
    store = open_store(study, database_url, create=True)
    rater = store.join().rater
    rate_all(store, rater.id)
    invited = store.invite()
    store.database.close()
    _downgrade(database_url)
    again = open_store(study, database_url)
    with again.database.reading() as session:
        revision = session.execute(text("SELECT version_num FROM alembic_version")).scalar()
    assert revision == newest_revision()
    assert votes_frame(again)["images_missing"].tolist() == ["", ""]
    found = again.find_rater(invited.token)
    assert found is not None
    with pytest.raises(RefusedError, match="study is full"):
        again.join()  # the place of the old invitation is kept
    assert again.accept(found.id).state == "active"
    again.database.close()


def test_a_study_without_the_later_settings_and_texts_keeps_its_hash(new_study: NewStudy) -> None:
    study = new_study(texts=english())
    raw = json.loads((study.path / DOCUMENT).read_text("utf-8"))
    for section, keys in LATER_TEXTS.items():
        for key in keys:
            del raw["texts"][section][key]
    assert "return_by_platform_id" not in raw["config"]
    (study.path / DOCUMENT).write_text(json.dumps(raw), "utf-8")
    old = load_study(study.path)
    assert json.loads(old.document.model_dump_json()) == raw
    assert document_sha256(old) != document_sha256(study)
    assert old.texts.images.skip == english().images.skip
    assert old.config.return_by_platform_id
    chosen = new_study(return_by_platform_id=False)
    assert not load_study(chosen.path).config.return_by_platform_id
    assert document_sha256(load_study(chosen.path)) == document_sha256(chosen)


def test_a_backup_of_older_tables_is_restored(
    new_study: NewStudy, sqlite_store: Callable[[Study], Store], tmp_path: Path,
    rate_all: Callable[..., None],
) -> None:  # fmt: skip
    store = sqlite_store(new_study(rows=[("one", "x")], raters_per_item=2))
    rate_all(store, store.join().rater.id)
    store.invite()
    back_up(store, tmp_path / "new.zip")

    def older(name: str, content: bytes) -> bytes:
        if name == "backup.json":
            return json.dumps({**json.loads(content), "revision": "0001"}).encode()
        if name not in ("tables/vote.jsonl", "tables/rater.jsonl"):
            return content
        rows: list[dict[str, Any]] = [json.loads(line) for line in content.splitlines()]
        for row in rows:
            row.pop("images_missing", None)
            if name == "tables/rater.jsonl" and row["consented_at"] is None:
                row["lease_until"] = 0.0
        return "".join(json.dumps(row) + "\n" for row in rows).encode()

    with zipfile.ZipFile(tmp_path / "new.zip") as new, zipfile.ZipFile(
        tmp_path / "old.zip", "w"
    ) as old:  # fmt: skip
        for name in new.namelist():
            old.writestr(name, older(name, new.read(name)))
    restore(tmp_path / "old.zip", tmp_path / "again")
    restored = open_store(load_study(tmp_path / "again"), clock=store.clock)
    assert len(votes_frame(restored)) == 2
    assert set(votes_frame(restored)["images_missing"]) == {""}
    assert restored.release(idle_s=0, invitations=True).num_invitations == 1
    restored.database.close()


def test_a_study_made_by_the_first_version_is_opened(shared: Path, tmp_path: Path) -> None:
    source = shared / "faults" / "data" / "study"
    copy = tmp_path / "study"
    shutil.copytree(source, copy)
    for path in (copy, *copy.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    with sqlite3.connect(copy / "study.sqlite") as before:
        assert before.execute("SELECT version_num FROM alembic_version").fetchone() == ("0001",)
    before.close()
    store = open_store(load_study(copy))
    assert store.join().rater.state == "active"
    store.database.close()
