"""The feature store: kept, found again, shared by two processes, refused when damaged."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import numpy as np
import pytest

from evalkit.core.errors import DataError
from evalkit.features.store import FeatureStore, StoredSet

IDENTITY = {"extractor": "test", "layer": "main"}
DIM = 3


def keys(count: int, start: int = 0) -> list[str]:
    return [f"{i:064x}" for i in range(start, start + count)]


def rows(count: int, start: int = 0) -> np.ndarray:
    return np.arange(start * DIM, (start + count) * DIM, dtype=np.float32).reshape(count, DIM)


def test_features_come_back_in_the_order_asked_for(tmp_path: Path) -> None:
    table = FeatureStore(tmp_path).open(IDENTITY, DIM)
    table.add(keys(4), rows(4))
    table.add(keys(3, 4), rows(3, 4))
    again = FeatureStore(tmp_path).open(IDENTITY, DIM)
    assert len(again) == 7
    np.testing.assert_array_equal(again.get(keys(7)[::-1]), rows(7)[::-1])


def test_a_key_is_stored_once(tmp_path: Path) -> None:
    table = FeatureStore(tmp_path).open(IDENTITY, DIM)
    table.add(keys(2), rows(2))
    table.add(keys(2), rows(2) + 9)
    assert len(list(tmp_path.rglob("*.npy"))) == 1
    np.testing.assert_array_equal(table.get(keys(2)), rows(2))


def test_identities_do_not_mix(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path)
    store.open(IDENTITY, DIM).add(keys(2), rows(2))
    other = store.open({**IDENTITY, "resize": "clean"}, DIM)
    assert keys(1)[0] not in other
    with pytest.raises(KeyError):
        other.get(keys(1))


def test_unfinished_shards_are_not_seen(tmp_path: Path) -> None:
    table = FeatureStore(tmp_path).open(IDENTITY, DIM)
    table.add(keys(2), rows(2))
    (table.folder / "half.tmp").write_bytes(b"\x93NUMPY half")
    assert len(FeatureStore(tmp_path).open(IDENTITY, DIM)) == 2


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY", b"text", b"PK\x03\x04"])
def test_a_damaged_shard_is_named(tmp_path: Path, content: bytes) -> None:
    table = FeatureStore(tmp_path).open(IDENTITY, DIM)
    table.add(keys(1), rows(1))
    (table.folder / "bad.npy").write_bytes(content)
    with pytest.raises(DataError, match=r"bad\.npy.*Delete it"):
        FeatureStore(tmp_path).open(IDENTITY, DIM)


def test_a_shard_of_other_dimensions_is_refused(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path)
    store.open(IDENTITY, DIM).add(keys(1), rows(1))
    with pytest.raises(DataError, match="expected 4 dimensions"):
        store.open(IDENTITY, 4)


def test_contents_and_clear(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path)
    store.open(IDENTITY, DIM).add(keys(5), rows(5))
    (found,) = store.contents()
    assert found.identity["extractor"] == "test"
    assert found.num_shards == 1
    assert store.clear() > found.size_bytes
    assert store.contents() == []


def test_a_stored_set_reads_like_an_array(tmp_path: Path) -> None:
    table = FeatureStore(tmp_path).open(IDENTITY, DIM)
    table.add(keys(6), rows(6))
    stored = StoredSet(table, keys(6))
    assert stored.shape == (6, DIM)
    assert len(stored) == 6
    np.testing.assert_array_equal(stored[2:4], rows(6)[2:4])
    np.testing.assert_array_equal(stored[np.array([5, 0])], rows(6)[[5, 0]])
    np.testing.assert_array_equal(np.asarray(stored), rows(6))
    assert np.asarray(stored, dtype=np.float64).dtype == np.float64


def add_many(root: str, offset: int) -> None:
    table = FeatureStore(root).open(IDENTITY, DIM)
    for start in range(0, 40, 4):
        table.add(keys(4, start + offset), rows(4, start + offset))


def test_two_processes_at_once_lose_nothing(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=add_many, args=(str(tmp_path), o)) for o in (0, 20)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0]
    table = FeatureStore(tmp_path).open(IDENTITY, DIM)
    np.testing.assert_array_equal(table.get(keys(60)), rows(60))


def test_a_table_sees_what_another_process_added(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path)
    first, second = store.open(IDENTITY, DIM), store.open(IDENTITY, DIM)
    first.add(keys(2), rows(2))
    assert keys(1)[0] not in second
    second.refresh()
    assert keys(1)[0] in second
