"""Runs and features in an S3-like store, which has no append, no rename and no locks."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import worker_faults
from fake_generators import SeededNoise, noise_items
from object_store import BUCKET, DENIED, SLOW_DOWN, ObjectStore, serving

from evalkit import cli
from evalkit.commands import run_folders
from evalkit.core.errors import EvalkitError, OutputError, RunFolderError
from evalkit.core.places import names_in, place
from evalkit.core.results import read_records
from evalkit.core.run import WHOLE, RunFolder, Shard
from evalkit.core.run_checks import verify
from evalkit.datasets.shapes.dataset import write_shapes
from evalkit.engine import generate
from evalkit.features.store import FeatureStore
from evalkit.options import SpreadOptions
from evalkit.workers.opening import pool_opener
from evalkit.workers.sampling import SamplingWork, generate_in_workers

s3fs = pytest.importorskip("s3fs", reason="needs: pip install 'evalkit[remote]'")
pytest.importorskip("moto", reason="needs: pip install 'moto[server]'")
pytestmark = [
    pytest.mark.xdist_group("object store"),
    pytest.mark.filterwarnings("ignore"),  # the client closes its sockets when Python ends
]
N, BATCH = 10, 4
CONFIG = {
    "model": "noise", "weights_sha256": "0" * 64, "display_name": "noise",
    "dataset": {"name": "d", "n": N},
}  # fmt: skip


@pytest.fixture(scope="module")
def server() -> Iterator[ObjectStore]:
    with serving() as found:
        yield found


@pytest.fixture
def store(server: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> Iterator[ObjectStore]:
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.address)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    s3fs.S3FileSystem.clear_instance_cache()
    server.num_refused = 0
    yield server
    server.refuse = lambda number, method, path: None
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture
def at(request: pytest.FixtureRequest) -> str:
    return f"s3://{BUCKET}/{request.node.name.partition('[')[0]}"


def make(path: Any, shard: Shard = WHOLE) -> RunFolder:
    run = RunFolder.create_or_resume(path, CONFIG)
    generate(run, SeededNoise(), {}, noise_items(N), batch_size=BATCH, shard=shard)
    return run


def contents(run: RunFolder) -> dict[str, bytes]:
    rows = run.rows()
    images = {str(row.file): run.image_path(row).read_bytes() for row in rows}
    return {**images, "manifest.jsonl": run.manifest_path.read_bytes()}


def test_a_run_has_the_same_bytes(store: ObjectStore, at: str, tmp_path: Path) -> None:
    local, remote = make(tmp_path), make(place(at))
    assert contents(remote) == contents(local)
    assert names_in(remote.parts_path) == []
    assert verify(remote).is_intact
    again = RunFolder.create_or_resume(place(at), CONFIG)
    with again.locked():
        assert not again.pending(noise_items(N), BATCH)


def test_one_request_in_ten_fails(store: ObjectStore, at: str, tmp_path: Path) -> None:
    store.refuse = lambda number, method, path: SLOW_DOWN if number % 10 == 0 else None
    remote = make(place(at))
    assert verify(remote).is_intact
    found = contents(remote)
    assert store.num_refused >= 3
    store.refuse = lambda number, method, path: None
    assert found == contents(make(tmp_path))


def test_two_processes_and_a_killed_one(store: ObjectStore, at: str, tmp_path: Path) -> None:
    store.refuse = lambda number, method, path: SLOW_DOWN if number % 10 == 0 else None
    run = RunFolder.create_or_resume(place(at), CONFIG)
    load = partial(worker_faults.load, fault=worker_faults.die, index=5, mark=tmp_path / "mark")
    work = SamplingWork(run=run.path, load=load)
    where = SpreadOptions(devices=("cpu", "cpu"))
    generate_in_workers(
        run, noise_items(N), pool_opener(work, where), batch_size=BATCH, worker_timeout_s=60
    )
    assert (tmp_path / "mark").exists()
    assert contents(run) == contents(make(tmp_path / "local"))


def test_damage_is_found_and_mended(store: ObjectStore, at: str, tmp_path: Path) -> None:
    make(place(at), Shard(1, 2))
    with pytest.raises(RunFolderError, match=r"lacks 4 \(4 to 7\) of 10 images"):
        run_folders.merge(RunFolder.read(place(at)))
    run = make(place(at), Shard(2, 2))
    rows = run.rows()
    run.image_path(rows[5]).write_bytes(b"other")
    run.image_path(rows[9]).unlink()
    (run.parts_path / "000000000-000000004.jsonl").write_bytes(b"{")
    assert set(verify(run).counts) == {
        "altered image", "missing image", "damaged part", "missing rows",
    }  # fmt: skip
    assert contents(make(place(at))) == contents(make(tmp_path))
    assert verify(run).is_intact


def test_runs_are_listed_shown_exported_and_removed(
    store: ObjectStore, at: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make(place(f"{at}/one"))
    for words in (("list", at), ("show", f"{at}/one"), ("verify", f"{at}/one")):
        cli.app(["runs", *words], standalone_mode=False)
    assert f"{at}/one" in capsys.readouterr().out.replace("\n", "")
    out = tmp_path / "out.zip"
    cli.app(["runs", "export", f"{at}/one", "--out", str(out)], standalone_mode=False)
    assert out.is_file()
    cli.app(["runs", "rm", f"{at}/one", "--yes"], standalone_mode=False)
    assert names_in(place(at)) == []


def test_a_run_and_its_features_are_measured_there(
    store: ObjectStore, at: str, tmp_path: Path
) -> None:
    write_shapes(tmp_path / "shapes", 0, 20, 0)
    (tmp_path / "mine.py").write_text(
        "import numpy as np\n\n\ndef draw(prompts, seeds):\n"
        "    return [np.random.default_rng(s).random((16, 16, 3)) for s in seeds]\n"
    )
    what = ("generate", "--model", f"python:{tmp_path / 'mine.py'}:draw", "--data",
            str(tmp_path / "shapes"), "--n", "20", "--device", "cpu", "--out")  # fmt: skip
    values = []
    for out, features in ((str(tmp_path / "run"), str(tmp_path / "store")), (at, f"{at}-store")):
        cli.app([*what, out], standalone_mode=False)
        score = ("score", out, "--against", str(tmp_path / "shapes"), "--metrics", "fd")
        for _ in range(2):  # the second time from the store
            cli.app([*score, "--store", features, "--device", "cpu"], standalone_mode=False)
        values.append([record.value for record in read_records(place(out) / "results.json")])
    assert values[0] == values[1]
    stored = FeatureStore(f"{at}-store")
    assert sum(part.num_rows for part in stored.contents()) == 40
    assert stored.clear() > 0
    assert stored.contents() == []
    cli.app(["report", at], standalone_mode=False)


@pytest.mark.parametrize("fault", ["no credentials", "no bucket", "unwritable", "unreachable"])
def test_what_the_store_refuses_is_one_line_before_the_work(
    store: ObjectStore, at: str, fault: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if fault == "no credentials":
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.delenv(name)
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        monkeypatch.setenv("HOME", str(tmp_path))
    elif fault == "no bucket":
        at = at.replace(BUCKET, "nobucket")
    elif fault == "unwritable":
        store.refuse = lambda number, method, path: DENIED if method == "PUT" else None
    else:
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    said = {
        "no credentials": "Unable to locate credentials",
        "no bucket": "bucket does not exist",
        "unwritable": "refused|Forbidden|Access Denied",
        "unreachable": "connect",
    }[fault]
    started = time.monotonic()
    with pytest.raises(OutputError, match=said) as raised:
        cli.app(
            ["generate", "--model", "glide:tiny", "--prompt", "a", "--out", at],
            standalone_mode=False,
        )
    assert "\n" not in str(raised.value)
    assert time.monotonic() - started < 60


def test_a_url_that_is_no_run_is_refused(store: ObjectStore, at: str) -> None:
    with pytest.raises(EvalkitError, match="Only runs are read from a URL"):
        cli.app(["score", at, "--metrics", "fd"], standalone_mode=False)


def test_kinds_of_urls() -> None:
    with pytest.raises(EvalkitError, match="nosuch"):
        place("nosuch://bucket/run")
    assert place("file:///tmp/run") == Path("/tmp/run")
