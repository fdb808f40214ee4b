"""Faults of disks and locks, made for real: found by `verify`, mended by resuming."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import worker_faults
from fake_generators import SeededNoise, noise_items

from evalkit.core.errors import EvalkitError, OutputError
from evalkit.core.run import RunFolder
from evalkit.core.run_checks import verify
from evalkit.engine import generate
from evalkit.options import SpreadOptions
from evalkit.workers.opening import pool_opener
from evalkit.workers.sampling import SamplingWork, generate_in_workers
from evalkit.workers.work import WorkerError

N, BATCH = 120, 8
CONFIG = {"model": "noise", "weights_sha256": "0" * 64, "dataset": {"name": "d", "n": N}}

UNLOCKED = """
import errno, sys
sys.path[:0] = {path!r}
from evalkit.core import locks
from fake_generators import SeededNoise, noise_items
from pathlib import Path
from evalkit.core.run import RunFolder
from evalkit.engine import generate
import time

class NoLocks:
    LOCK_EX = LOCK_SH = LOCK_NB = 0

    @staticmethod
    def flock(handle, how):
        raise OSError(errno.{code}, "refused by the file system")

class Slow(SeededNoise):
    def generate(self, requests, settings):
        time.sleep(0.02)
        return super().generate(requests, settings)

locks.fcntl = NoLocks
run = RunFolder.create_or_resume(Path({run!r}), {config!r})
print("ready", flush=True)
sys.stdin.readline()
generate(run, Slow(), {{}}, noise_items({n}), batch_size={batch})
"""


def contents(path: Path) -> dict[str, bytes]:
    kept = [p for p in path.rglob("*") if p.suffix == ".png" or p.name == "manifest.jsonl"]
    return {str(p.relative_to(path)): p.read_bytes() for p in sorted(kept)}


def make(path: Path) -> RunFolder:
    run = RunFolder.create_or_resume(path, CONFIG)
    generate(run, SeededNoise(), {}, noise_items(N), batch_size=BATCH)
    return run


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system that is full after a few batches."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a full disk needs the right to mount a tmpfs")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.parametrize("engine", ["one process", "two processes"])
def test_a_full_disk_is_one_line_and_resuming_ends_the_run(
    small_disk: Path, tmp_path: Path, engine: str
) -> None:
    path = small_disk / "run"

    def go() -> RunFolder:
        if engine == "one process":
            return make(path)
        run = RunFolder.create_or_resume(path, CONFIG)
        work = SamplingWork(run=path, load=worker_faults.load)
        opened = pool_opener(work, SpreadOptions(devices=("cpu", "cpu")))
        items = noise_items(N)
        generate_in_workers(run, items, opened, batch_size=BATCH, worker_timeout_s=60)
        return run

    expected = OutputError if engine == "one process" else WorkerError
    with pytest.raises(expected, match="No space left on device") as raised:
        go()
    assert "\n" not in str(raised.value)
    found = verify(RunFolder.read(path))
    assert 0 < found.num_rows < N
    assert found.counts.keys() <= {"missing rows", "torn line", "damaged part"}
    subprocess.run(["mount", "-o", "remount,size=16m", str(small_disk)], check=True)
    assert contents(go().path) == contents(make(tmp_path / "whole").path)
    assert verify(RunFolder.read(path)).is_intact


@pytest.mark.parametrize("code", ["ENOSYS", "ENOLCK"])
def test_two_processes_where_there_are_no_locks(tmp_path: Path, code: str) -> None:
    support = str(Path(__file__).parents[2] / "support")
    script = tmp_path / "one.py"
    script.write_text(
        UNLOCKED.format(
            path=[support, *sys.path], code=code, run=str(tmp_path / "run"), config=CONFIG, n=N,
            batch=BATCH,
        )
    )  # fmt: skip
    command = [sys.executable, str(script)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with (
        subprocess.Popen(command, text=True, **pipes) as first,
        subprocess.Popen(command, text=True, **pipes) as second,
    ):
        for one in (first, second):
            assert one.stdout is not None
            assert one.stdout.readline() == "ready\n"
        for one in (first, second):
            assert one.stdin is not None
            one.stdin.write("\n")
            one.stdin.flush()
        said = [one.communicate()[1] for one in (first, second)]
    assert all("can't be locked" in text for text in said)
    found = verify(RunFolder.read(tmp_path / "run"))
    assert found.counts.get("repeated index", 0) >= BATCH
    with pytest.raises(EvalkitError, match="occurs twice"):
        RunFolder.read(tmp_path / "run").rows()
    generator = SeededNoise()
    run = RunFolder.create_or_resume(tmp_path / "run", CONFIG)
    generate(run, generator, {}, noise_items(N), batch_size=BATCH)
    assert contents(run.path) == contents(make(tmp_path / "whole").path)
    assert verify(run).is_intact
