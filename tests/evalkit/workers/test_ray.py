"""A Ray cluster of three nodes on this machine: the same bytes, whatever node is lost."""

from __future__ import annotations

import os
import random
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import worker_faults
from fake_generators import SeededNoise, noise_items

from evalkit.core.errors import ConfigError, NetworkError
from evalkit.core.run import RunFolder
from evalkit.core.run_checks import verify
from evalkit.engine import generate
from evalkit.options import SpreadOptions
from evalkit.workers.opening import pool_opener
from evalkit.workers.sampling import Loading, SamplingWork, generate_in_workers
from evalkit.workers.work import WorkerError

ray = pytest.importorskip("ray", reason="tests of the cluster need: pip install 'evalkit[ray]'")

N, BATCH = 60, 4
CONFIG = {"model": "noise", "weights_sha256": "0" * 64, "dataset": {"name": "d", "n": N}}
SUPPORT = Path(__file__).parents[2] / "support"
SOON = {
    "health_check_period_ms": 500,
    "health_check_timeout_ms": 500,
    "health_check_failure_threshold": 3,
    "health_check_initial_delay_ms": 1000,
}
"""Lost nodes are noticed after 3 s instead of 17."""

pytestmark = [
    pytest.mark.xdist_group("ray"),
    pytest.mark.filterwarnings("ignore"),  # Ray leaves sockets and processes to the end
]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    from ray.cluster_utils import Cluster

    before = dict(os.environ)
    root = Path(__file__).parents[3]
    os.environ["PYTHONPATH"] = os.pathsep.join([str(SUPPORT), str(root)])
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    head = {
        "num_cpus": 0,
        "include_dashboard": False,
        "object_store_memory": 100 * 2**20,
        "_system_config": SOON,
    }
    found = Cluster(initialize_head=True, head_node_args=head)
    for _ in range(3):
        add_node(found)
    yield found
    ray.shutdown()
    found.shutdown()
    os.environ.clear()
    os.environ.update(before)


def add_node(cluster: Any) -> Any:
    return cluster.add_node(num_cpus=1, object_store_memory=100 * 2**20)


@pytest.fixture(autouse=True)
def _disconnected() -> Iterator[None]:
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    run = RunFolder.create_or_resume(tmp_path_factory.mktemp("whole") / "run", CONFIG)
    generate(run, SeededNoise(), {}, noise_items(N), batch_size=BATCH)
    return contents(run.path)


def contents(path: Path) -> dict[str, bytes]:
    kept = [p for p in path.rglob("*") if p.suffix == ".png" or p.name == "manifest.jsonl"]
    return {str(p.relative_to(path)): p.read_bytes() for p in sorted(kept)}


def spread(
    path: Path,
    address: str,
    load: Loading = worker_faults.load,
    *,
    workers: int | None = None,
    versions: dict[str, str] | None = None,
    worker_timeout_s: float = 60,
) -> RunFolder:
    run = RunFolder.create_or_resume(path, CONFIG)
    work = SamplingWork(run=path, load=load, versions=versions or {})
    where = SpreadOptions(engine="ray", address=address, workers=workers)
    generate_in_workers(
        run,
        noise_items(N),
        pool_opener(work, where),
        batch_size=BATCH,
        worker_timeout_s=worker_timeout_s,
    )
    return run


def check_intact(run: RunFolder, whole: dict[str, bytes]) -> None:
    assert contents(run.path) == whole
    found = verify(run)
    assert found.is_intact
    assert (found.num_rows, found.num_images) == (N, N), "none twice, none missing"


def kill_one_later(cluster: Any, run: Path, seed: int) -> threading.Thread:
    """Kill a node after a random number of batches."""
    chosen = random.Random(seed)
    node = chosen.choice(sorted(cluster.worker_nodes, key=lambda one: str(one.node_id)))
    after = chosen.randint(1, N // BATCH - 4)

    def kill() -> None:
        until = time.monotonic() + 120
        while len(list((run / "parts").glob("*.jsonl"))) < after and time.monotonic() < until:
            time.sleep(0.02)
        cluster.remove_node(node, allow_graceful=False)

    thread = threading.Thread(target=kill)
    thread.start()
    return thread


def test_three_nodes_make_the_same_bytes_though_one_is_killed(
    cluster: Any, tmp_path: Path, whole: dict[str, bytes]
) -> None:
    killing = kill_one_later(cluster, tmp_path / "run", 0)
    slow = partial(worker_faults.load, seconds=0.4)
    check_intact(spread(tmp_path / "run", cluster.address, slow), whole)
    killing.join()
    add_node(cluster)


@pytest.mark.parametrize(
    ("load", "versions", "error"),
    [
        (worker_faults.lack_weights, {}, "weights of noise not found on cpu. Copy them there"),
        (worker_faults.load, {"numpy": "0.1"}, "has numpy .*, but the command was started with"),
    ],
)
def test_a_node_unlike_this_one_is_one_line(
    cluster: Any, tmp_path: Path, load: Loading, versions: dict[str, str], error: str
) -> None:
    with pytest.raises(WorkerError, match=error) as raised:
        spread(tmp_path / "run", cluster.address, load, versions=versions)
    assert "\n" not in str(raised.value)


def test_a_stopped_worker_is_replaced(
    cluster: Any, tmp_path: Path, whole: dict[str, bytes]
) -> None:
    load = partial(worker_faults.load, fault=worker_faults.stop, index=9, mark=tmp_path / "mark")
    run = spread(tmp_path / "run", cluster.address, load, worker_timeout_s=8)
    check_intact(run, whole)


def test_more_gpus_than_there_are(cluster: Any) -> None:
    from evalkit.workers.ray_pool import cluster_device

    assert cluster_device(cluster.address, None) == "cpu"
    with pytest.raises(ConfigError, match="no node of the cluster has more than 0 GPUs"):
        cluster_device(cluster.address, 1)


@pytest.mark.parametrize("kind", ["nothing listens", "something else listens", "no route"])
def test_an_unreachable_cluster_is_one_line_within_15_s(kind: str) -> None:
    from evalkit.workers.ray_pool import connect

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        if kind == "something else listens":
            listener.listen()
        address = "10.255.255.1:6379" if kind == "no route" else f"127.0.0.1:{port}"
        started = time.monotonic()
        with pytest.raises(NetworkError, match="No Ray cluster at") as raised:
            connect(address)
        assert time.monotonic() - started < 15
        assert "\n" not in str(raised.value)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 11))
def test_one_of_three_nodes_killed_at_random(
    cluster: Any, tmp_path: Path, whole: dict[str, bytes], seed: int
) -> None:
    killing = kill_one_later(cluster, tmp_path / "run", seed)
    slow = partial(worker_faults.load, seconds=0.3)
    check_intact(spread(tmp_path / "run", cluster.address, slow), whole)
    killing.join()
    add_node(cluster)


@pytest.mark.slow
def test_a_node_that_joins_is_used(cluster: Any, tmp_path: Path, whole: dict[str, bytes]) -> None:
    mark = tmp_path / "nodes"
    mark.mkdir()
    slow = partial(worker_faults.load_marked, folder=mark, seconds=2.0)
    run, address = tmp_path / "run", cluster.address
    spreading = threading.Thread(target=spread, args=(run, address, slow))
    spreading.start()
    joined = add_node(cluster)  # in the main thread, where Ray sets its signal handlers
    spreading.join()
    check_intact(RunFolder.read(run), whole)
    cluster.remove_node(joined)
    assert len(list(mark.iterdir())) == 4, "processes that loaded the model"


@pytest.mark.slow
def test_the_driver_is_killed_and_started_again(
    cluster: Any, tmp_path: Path, whole: dict[str, bytes]
) -> None:
    script = tmp_path / "driver.py"
    script.write_text(
        f"import sys; sys.path[:0] = {[str(Path(__file__).parent), *sys.path]!r}\n"
        "from functools import partial\nfrom pathlib import Path\n"
        "import test_ray, worker_faults\n"
        "slow = partial(worker_faults.load, seconds=0.5)\n"
        f"test_ray.spread(Path({str(tmp_path / 'run')!r}), {cluster.address!r}, slow)\n"
    )
    parts = tmp_path / "run" / "parts"
    with subprocess.Popen([sys.executable, str(script)]) as driver:
        until = time.monotonic() + 120
        while len(list(parts.glob("*.jsonl"))) < 3 and time.monotonic() < until:
            time.sleep(0.05)
        driver.kill()
    done = len(list(parts.glob("*.jsonl")))
    assert 3 <= done < N / BATCH
    check_intact(spread(tmp_path / "run", cluster.address), whole)
