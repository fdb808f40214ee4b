"""Backups: whole, portable between databases, and suspicious of what they are given."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from drawbench.errors import StoreError, StudyError
from drawbench.exchange.exports import quota_frame, raters_frame, reports_frame, votes_frame
from drawbench.store import Store, open_store
from drawbench.store.backup import back_up, restore
from drawbench.study import Study, load_study
from evalkit.core.errors import MissingDataError

NewStudy = Callable[..., Study]
NewStore = Callable[[Study], Store]
RateAll = Callable[..., None]


@pytest.fixture
def busy_store(new_study: NewStudy, sqlite_store: NewStore, rate_all: RateAll) -> Store:
    """A study in the middle: one rater done, one halfway, one image reported."""
    store = sqlite_store(new_study(num_practice=1, num_checks=1))
    done, halfway = store.join().rater, store.join().rater
    rate_all(store, done.id)
    rate_all(store, halfway.id, "second", pages=2)
    place = store.hand(halfway.id)[0]
    store.report(halfway.id, place.cell_id, place.first[0], "blurred")
    return store


def _same(one: Store, other: Store) -> None:
    for frame in (votes_frame, raters_frame, quota_frame, reports_frame):
        assert frame(one).equals(frame(other)), frame.__name__


def test_a_restored_study_is_the_same_and_goes_on(
    busy_store: Store, database_url: str, tmp_path: Path, rate_all: RateAll
) -> None:
    joined = busy_store.join()
    counts = back_up(busy_store, tmp_path / "b.zip")
    assert counts["vote"] > 0
    assert restore(tmp_path / "b.zip", tmp_path / "again", database_url) == counts
    study = load_study(tmp_path / "again")
    store = open_store(study, database_url, clock=busy_store.clock)
    _same(busy_store, store)
    back = store.find_rater(joined.token)
    assert back is not None, "personal links outlive a restore"
    rate_all(store, back.id)
    assert [p.first for p in store.hand(back.id)] == [
        p.first for p in busy_store.hand(joined.rater.id)
    ]
    with pytest.raises(StoreError, match="already contains this study"):
        restore(tmp_path / "b.zip", tmp_path / "third", database_url)
    assert not (tmp_path / "third").exists()
    store.database.close()


def test_a_backup_restores_beside_another_study(
    busy_store: Store, new_study: NewStudy, tmp_path: Path
) -> None:
    other = open_store(new_study(), create=True)
    other.join()
    back_up(busy_store, tmp_path / "b.zip")
    url = other.study.default_database
    restore(tmp_path / "b.zip", tmp_path / "again", url)
    store = open_store(load_study(tmp_path / "again"), url, clock=busy_store.clock)
    _same(busy_store, store)
    store.database.close()
    other.database.close()


def test_no_token_is_in_a_backup(busy_store: Store, tmp_path: Path) -> None:
    token = busy_store.join().token
    back_up(busy_store, tmp_path / "b.zip")
    with zipfile.ZipFile(tmp_path / "b.zip") as archive:
        assert all(token.encode() not in archive.read(name) for name in archive.namelist())


def _rewrite(source: Path, target: Path, change: Callable[[str, bytes], bytes | None]) -> Path:
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            content = change(name, old.read(name))
            if content is not None:
                new.writestr(name, content)
    return target


def test_a_cut_backup_is_refused_and_leaves_nothing(busy_store: Store, tmp_path: Path) -> None:
    back_up(busy_store, tmp_path / "b.zip")
    (tmp_path / "cut.zip").write_bytes((tmp_path / "b.zip").read_bytes()[:-300])
    with pytest.raises(StoreError, match="not a backup"):
        restore(tmp_path / "cut.zip", tmp_path / "again")

    def without_last_vote(name: str, content: bytes) -> bytes:
        return b"\n".join(content.splitlines()[:-1]) if name == "tables/vote.jsonl" else content

    short = _rewrite(tmp_path / "b.zip", tmp_path / "short.zip", without_last_vote)
    with pytest.raises(StoreError, match=r"table vote has \d+ rows, expected"):
        restore(short, tmp_path / "again")
    assert not list(tmp_path.glob("*again*"))


def test_backups_of_other_versions_are_refused(busy_store: Store, tmp_path: Path) -> None:
    back_up(busy_store, tmp_path / "b.zip")

    def newer(name: str, content: bytes) -> bytes:
        if name != "backup.json":
            return content
        return json.dumps({**json.loads(content), "revision": "9999"}).encode()

    path = _rewrite(tmp_path / "b.zip", tmp_path / "newer.zip", newer)
    with pytest.raises(StoreError, match="tables of version 9999"):
        restore(path, tmp_path / "again")


@pytest.mark.parametrize(
    "name", ["../evil.txt", "study/../../evil.txt", "study/images/../../evil.png", "/evil.txt"]
)
def test_names_that_lead_out_of_the_folder_are_not_unpacked(
    busy_store: Store, tmp_path: Path, name: str
) -> None:
    back_up(busy_store, tmp_path / "b.zip")
    with zipfile.ZipFile(tmp_path / "b.zip", "a") as archive:
        archive.writestr(name, "evil")
    restore(tmp_path / "b.zip", tmp_path / "inner" / "again")
    assert not list(tmp_path.rglob("evil*"))


def test_rows_that_point_nowhere_are_refused(busy_store: Store, tmp_path: Path) -> None:
    back_up(busy_store, tmp_path / "b.zip")

    def astray(name: str, content: bytes) -> bytes:
        if name != "tables/vote.jsonl":
            return content
        first, *rest = content.splitlines()
        return b"\n".join([json.dumps({**json.loads(first), "cell_id": 10**6}).encode(), *rest])

    path = _rewrite(tmp_path / "b.zip", tmp_path / "astray.zip", astray)
    with pytest.raises(StoreError, match="backup is inconsistent"):
        restore(path, tmp_path / "again")
    assert not (tmp_path / "again").exists()


def test_used_folders_and_missing_files_are_refused(busy_store: Store, tmp_path: Path) -> None:
    back_up(busy_store, tmp_path / "b.zip")
    with pytest.raises(StudyError, match="is in use"):
        restore(tmp_path / "b.zip", busy_store.study.path)
    with pytest.raises(MissingDataError, match="no such file"):
        restore(tmp_path / "none.zip", tmp_path / "again")
    with pytest.raises(StoreError, match="can't be written"):
        back_up(busy_store, tmp_path / "b.zip" / "inside.zip")
