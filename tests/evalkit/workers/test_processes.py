"""Worker processes: the same bytes as one process, whatever happens to them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import worker_faults
from fake_generators import SeededNoise, noise_items

from evalkit.core.errors import EvalkitError
from evalkit.core.run import RunFolder
from evalkit.core.run_checks import verify
from evalkit.engine import generate
from evalkit.options import SpreadOptions
from evalkit.workers.opening import pool_opener
from evalkit.workers.processes import ProcessPool
from evalkit.workers.sampling import Loading, SamplingWork, generate_in_workers
from evalkit.workers.work import WorkerError

N, BATCH = 30, 4
CONFIG = {"model": "noise", "weights_sha256": "0" * 64, "dataset": {"name": "d", "n": N}}
TWO = SpreadOptions(devices=("cpu", "cpu"))


def contents(path: Path) -> dict[str, bytes]:
    kept = [p for p in path.rglob("*") if p.suffix == ".png" or p.name == "manifest.jsonl"]
    return {str(p.relative_to(path)): p.read_bytes() for p in sorted(kept)}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    run = RunFolder.create_or_resume(tmp_path_factory.mktemp("whole") / "run", CONFIG)
    generate(run, SeededNoise(), {}, noise_items(N), batch_size=BATCH)
    return contents(run.path)


def spread(
    path: Path,
    load: Loading = worker_faults.load,
    *,
    versions: dict[str, str] | None = None,
    worker_timeout_s: float = 60,
    batch_timeout_s: float = 0,
    with_pool: Callable[[Any], None] = lambda pool: None,
) -> RunFolder:
    run = RunFolder.create_or_resume(path, CONFIG)
    work = SamplingWork(run=path, load=load, versions=versions or {})
    opened = pool_opener(work, TWO)

    def open_pool(most: int) -> Any:
        pool = opened(most)
        with_pool(pool)
        return pool

    generate_in_workers(
        run,
        noise_items(N),
        open_pool,
        batch_size=BATCH,
        worker_timeout_s=worker_timeout_s,
        batch_timeout_s=batch_timeout_s,
    )
    return run


def test_two_processes_make_the_same_bytes(tmp_path: Path, whole: dict[str, bytes]) -> None:
    run = spread(tmp_path / "run")
    assert contents(run.path) == whole
    assert verify(run).is_intact
    assert [row["first_index"] for row in run.timings()] == list(range(0, N, BATCH))
    spread(tmp_path / "run")  # nothing is left to do


@pytest.mark.parametrize("fault", [worker_faults.die, worker_faults.stop])
def test_a_killed_or_stopped_worker_is_replaced(
    tmp_path: Path, whole: dict[str, bytes], fault: Callable[[], None]
) -> None:
    mark = tmp_path / "mark"
    load = partial(worker_faults.load, fault=fault, index=9, mark=mark)
    run = spread(tmp_path / "run", load, worker_timeout_s=4)
    assert contents(run.path) == whole
    with pytest.raises(ProcessLookupError):  # the stopped one was killed, too
        os.kill(int(mark.read_text()), 0)


def test_a_batch_that_takes_too_long_is_made_by_another(
    tmp_path: Path, whole: dict[str, bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    load = partial(worker_faults.load, fault=worker_faults.loop, index=9, mark=tmp_path / "mark")
    run = spread(tmp_path / "run", load, batch_timeout_s=2)
    assert contents(run.path) == whole
    assert "one batch took more than 2 s" in capsys.readouterr().err


def test_a_batch_that_ends_every_worker_is_named(tmp_path: Path) -> None:
    load = partial(worker_faults.load, fault=worker_faults.die, index=9)
    with pytest.raises(WorkerError, match=r"Batch 2 cost 3 workers \(ended by SIGKILL, perhaps"):
        spread(tmp_path / "run", load)


@pytest.mark.parametrize(
    ("load", "error"),
    [
        (worker_faults.lack_weights, "weights of noise not found on cpu"),
        (
            partial(worker_faults.load, fault=worker_faults.run_out_of_memory, index=9),
            r"Out of memory \(Unable to allocate 3.00 TiB .*\). Choose a smaller --batch-size",
        ),
    ],
)
def test_what_no_worker_can_do_is_one_line(tmp_path: Path, load: Loading, error: str) -> None:
    with pytest.raises(EvalkitError, match=error) as raised:
        spread(tmp_path / "run", load)
    assert "\n" not in str(raised.value)


def test_other_versions_are_refused(tmp_path: Path) -> None:
    with pytest.raises(WorkerError, match=r"has numpy .*, but the command was started with 0.1"):
        spread(tmp_path / "run", versions={"numpy": "0.1"})


def test_other_weights_are_refused(tmp_path: Path) -> None:
    run = RunFolder.create_or_resume(tmp_path, {**CONFIG, "weights_sha256": "a" * 64})
    work = SamplingWork(run=run.path, load=worker_faults.load)
    with pytest.raises(WorkerError, match="weights of noise have sha256 000000000000"):
        generate_in_workers(
            run, noise_items(N), pool_opener(work, TWO), batch_size=4, worker_timeout_s=60
        )


def test_a_bug_keeps_its_traceback(tmp_path: Path) -> None:
    load = partial(worker_faults.load, fault=worker_faults.crash, index=9)
    with pytest.raises(RuntimeError, match=r"ZeroDivisionError: a bug") as raised:
        spread(tmp_path / "run", load)
    assert not isinstance(raised.value, EvalkitError)
    assert "worker_faults.py" in str(raised.value)


def test_workers_end_with_their_driver(tmp_path: Path, whole: dict[str, bytes]) -> None:
    code = (
        "import sys; sys.path[:0] = {path!r}\n"
        "from pathlib import Path\n"
        "from functools import partial\n"
        "import worker_faults, test_processes as t\n"
        "if __name__ == '__main__':\n"
        "    t.spread(Path({run!r}), partial(worker_faults.load, seconds=0.7),\n"
        "             with_pool=lambda p: print(*p.pids(), flush=True))\n"
    )
    here = [str(Path(__file__).parent), *sys.path]
    script = tmp_path / "driver.py"
    script.write_text(code.format(path=here, run=str(tmp_path / "run")))
    command = [sys.executable, str(script)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as driver:
        assert driver.stdout is not None
        pids = [int(pid) for pid in driver.stdout.readline().split()]
        parts = tmp_path / "run" / "parts"
        until = time.monotonic() + 60
        while not (parts.is_dir() and list(parts.glob("*.jsonl"))) and time.monotonic() < until:
            time.sleep(0.05)
        driver.send_signal(signal.SIGKILL)
    until = time.monotonic() + 10
    while any(map(_is_running, pids)) and time.monotonic() < until:
        time.sleep(0.1)
    assert not any(map(_is_running, pids))
    done = len(list(parts.glob("*.jsonl")))
    assert 0 < done < N / BATCH
    run = spread(tmp_path / "run")
    assert contents(run.path) == whole


def test_a_second_command_on_the_same_run_is_refused(tmp_path: Path) -> None:
    run = RunFolder.create_or_resume(tmp_path / "run", CONFIG)
    with run.locked(), pytest.raises(EvalkitError, match="another process is writing"):
        spread(tmp_path / "run")


def test_idle_workers_are_watched_too(tmp_path: Path, whole: dict[str, bytes]) -> None:
    def stop_one(pool: ProcessPool) -> None:
        # Not yet loaded: what hangs while it loads is replaced like anything else.
        threading.Timer(0.3, os.kill, (pool.pids()[0], signal.SIGSTOP)).start()

    load = partial(worker_faults.load, seconds=0.4)
    run = spread(tmp_path / "run", load, worker_timeout_s=3, with_pool=stop_one)
    assert contents(run.path) == whole


def _is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
