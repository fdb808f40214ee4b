"""Workers as actors of a Ray cluster.

Ray places the actors, says when one or its node is gone, and starts others when nodes join; what is
done again is decided by `evalkit.workers.dispatch`, as for processes.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from evalkit.core.errors import ConfigError, MissingExtraError, NetworkError
from evalkit.core.progress import log_event
from evalkit.workers.work import Alive, Done, Event, Failed, Lost, Ready, Session, Work

CONNECT_S = 4.0
"""Within which the address must answer."""
ANSWER_S = 3.0
"""Within which it must answer as a server of gRPC does."""
CONNECTED_S = 7.0
"""Within which it must take this process in."""
_SETTINGS = 4
_FRAME_HEADER_BYTES = 9
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, _SETTINGS, 0, 0, 0, 0, 0])
_PING_EVERY_S = 1.0
_GROW_EVERY_S = 2.0
_WAIT_NOTE_S = 30.0
_CPUS_PER_WORKER = 1
_LOCAL = ("", "auto", "local")


class Actor:
    """A worker on a node of the cluster; `ping` answers while a task runs."""

    def __init__(self, work: Work, device: str) -> None:
        self._session = Session(work, device)

    def start(self) -> tuple[str, Any]:
        """Load."""
        return self._session.start()

    def run(self, payload: Any) -> tuple[str, Any]:
        """Do a task."""
        return self._session.run(payload)

    def ping(self) -> float:
        """Return the share of the task that is done."""
        return self._session.share


@dataclass
class _Worker:
    actor: Any
    pings: Any = None
    """The answer that is waited for."""
    pinged: float = field(default_factory=time.monotonic)


class RayPool:
    """Actors of a cluster.

    Args:
        work: What they do.
        address: Of the cluster; empty: the one that `RAY_ADDRESS` names or that runs here, else one
            on this machine alone.
        num_workers: How many; None: as many as there is room for, more when nodes join.
        most: Number of tasks: more workers would have nothing to do.
        gpus_per_worker: GPUs of each; None: 1 where the cluster has any.

    Raises:
        NetworkError: The cluster is unreachable.
        ConfigError: It runs another version of Ray or Python, or is too small for one worker.
        MissingExtraError: Ray is not installed.
    """

    def __init__(
        self,
        work: Work,
        *,
        address: str,
        num_workers: int | None,
        most: int,
        gpus_per_worker: float | None,
    ) -> None:
        self._ray = connect(address)
        self._gpus = gpus_of_worker(self._ray, gpus_per_worker)
        self._work = self._ray.put(work)
        self._fixed = num_workers
        self._most = most
        self._workers: dict[int, _Worker] = {}
        self._asked: dict[Any, int] = {}
        """Worker by the reference of its answer."""
        self._next = 0
        self._grown = time.monotonic()
        self._started = time.monotonic()
        self._heard_any = False
        wanted = min(most, num_workers or max(1, self._room()))
        for _ in range(wanted):
            self._start()

    def events(self, timeout_s: float) -> list[Event]:
        """Wait for what the workers say."""
        self._grow()
        self._ping()
        waiting = [*self._asked, *(w.pings for w in self._workers.values() if w.pings is not None)]
        ready, _ = self._ray.wait(waiting, num_returns=1, timeout=timeout_s)
        if ready:  # take what else is there
            ready, _ = self._ray.wait(waiting, num_returns=len(waiting), timeout=0)
        elif not self._heard_any:
            self._say_waiting()
        found: list[Event] = []
        for answer in ready:
            if answer in self._asked:
                found.append(self._answered(answer))
            else:
                found += self._pinged(answer)
        self._heard_any = self._heard_any or bool(found)
        return found

    def send(self, worker: int, payload: Any) -> None:
        """Give a worker a task."""
        self._asked[self._workers[worker].actor.run.remote(payload)] = worker

    def kill(self, worker: int) -> None:
        """End a worker that hangs."""
        self._forget(worker)

    def replace(self, worker: int) -> None:
        """Start another worker wherever there is room."""
        del worker
        self._start()

    def close(self) -> None:
        """End all workers, and leave the cluster as it was."""
        for worker in list(self._workers):
            self._forget(worker)

    def _start(self) -> None:
        made = self._ray.remote(Actor).options(
            num_cpus=_CPUS_PER_WORKER,
            num_gpus=self._gpus,
            max_concurrency=2,  # a task, and `ping` beside it
            max_restarts=0,
            runtime_env={"env_vars": _environment(self._gpus)},
        )
        actor = made.remote(self._work, "cuda" if self._gpus else "cpu")
        self._workers[self._next] = _Worker(actor)
        self._asked[actor.start.remote()] = self._next
        self._next += 1

    def _answered(self, answer: Any) -> Event:
        worker = self._asked.pop(answer)
        try:
            kind, value = self._ray.get(answer)
        except self._ray.exceptions.RayError as error:
            self._forget(worker)
            reason = _first_line(error)
            if "ModuleNotFoundError" in str(error) or "No module named" in str(error):
                message = f"A node of the cluster lacks a package of this machine ({reason}). "
                message += "Install the same versions on all nodes."
                return Failed(worker, message, is_bug=False)
            if isinstance(error, self._ray.exceptions.RayTaskError):
                return Failed(worker, str(error), is_bug=True)
            return Lost(worker, reason)
        if kind == "ready":
            return Ready(worker)
        if kind == "done":
            return Done(worker, value)
        return Failed(worker, value, is_bug=kind == "bug")

    def _pinged(self, answer: Any) -> list[Event]:
        number = next((n for n, w in self._workers.items() if w.pings == answer), None)
        if number is None:
            return []
        self._workers[number].pings = None
        try:
            return [Alive(number, self._ray.get(answer))]
        except self._ray.exceptions.RayError as error:
            for asked in [one for one, whose in self._asked.items() if whose == number]:
                del self._asked[asked]
            self._forget(number)
            return [Lost(number, _first_line(error))]

    def _ping(self) -> None:
        now = time.monotonic()
        for worker in self._workers.values():
            if worker.pings is None and now - worker.pinged > _PING_EVERY_S:
                worker.pings, worker.pinged = worker.actor.ping.remote(), now

    def _forget(self, worker: int) -> None:
        gone = self._workers.pop(worker, None)
        for asked in [one for one, whose in self._asked.items() if whose == worker]:
            del self._asked[asked]
        if gone is not None:
            with suppress(self._ray.exceptions.RayError):
                self._ray.kill(gone.actor, no_restart=True)

    def _grow(self) -> None:
        """Start more workers where nodes have joined."""
        now = time.monotonic()
        if self._fixed is not None or now - self._grown < _GROW_EVERY_S:
            return
        self._grown = now
        for _ in range(min(self._most, self._room()) - len(self._workers)):
            self._start()

    def _room(self) -> int:
        """Return how many workers the cluster could hold, were it empty."""
        found = 0
        for node in self._ray.nodes():
            if not node["Alive"]:
                continue
            has = node["Resources"]
            fits = int(has.get("CPU", 0) // _CPUS_PER_WORKER)
            if self._gpus:
                fits = min(fits, int(has.get("GPU", 0) / self._gpus))
            found += fits
        return found

    def _say_waiting(self) -> None:
        if time.monotonic() - self._started > _WAIT_NOTE_S:
            self._started = time.monotonic()
            log_event(
                "waiting for the cluster",
                "no worker has begun yet: the cluster is starting them, or has no room. They begin "
                "when there is",
            )


def connect(address: str) -> Any:
    """Connect to a cluster, unless this process is connected; return the module `ray`.

    Raises:
        NetworkError: It is unreachable.
        ConfigError: It runs another version of Ray or Python.
        MissingExtraError: Ray is not installed.
    """
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "error")
    try:
        import ray
    except ImportError:
        what = "--engine ray"
        raise MissingExtraError(what, "ray") from None
    if ray.is_initialized():
        return ray
    chosen = address or os.environ.get("RAY_ADDRESS", "")
    if chosen not in _LOCAL:
        _require_port(chosen)
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        _initialise(ray, chosen)
    except ConnectionError as error:
        raise NetworkError(
            f"No Ray cluster at {chosen or 'this machine'} ({_first_line(error)}). Start one with "
            "`ray start --head`, or give another --address."
        ) from error
    except (RuntimeError, ValueError) as error:
        raise ConfigError(
            f"The Ray cluster at {chosen or 'this machine'} can't be used ({_first_line(error)}). "
            "Use its versions of Ray and Python."
        ) from error
    return ray


def _initialise(ray: Any, address: str) -> None:
    """Connect in a thread: to something that is no cluster after all, Ray tries for minutes.

    Raises:
        ConnectionError: There is no cluster, or it did not answer in time.
        RuntimeError: It runs other versions.
        ValueError: The address is none.
    """
    failed: list[BaseException] = []

    def initialise() -> None:
        try:
            ray.init(
                address=address or None,
                log_to_driver=False,
                include_dashboard=None if address else False,
                logging_level=logging.ERROR,
            )
        except (ConnectionError, RuntimeError, ValueError) as error:
            failed.append(error)

    thread = threading.Thread(target=initialise, daemon=True, name="evalkit-ray")
    thread.start()
    thread.join(CONNECTED_S if address else None)
    if failed:
        raise failed[0]
    if thread.is_alive():
        raise ConnectionError("what listens there does not answer as one.")


def gpus_of_worker(ray: Any, chosen: float | None) -> float:
    """Return the GPUs of a worker: as chosen, else 1 where the cluster has any.

    Raises:
        ConfigError: No node has so many.
    """
    most = max(
        (node["Resources"].get("GPU", 0) for node in ray.nodes() if node["Alive"]), default=0
    )
    if chosen is None:
        return 1.0 if most else 0.0
    if chosen > most:
        raise ConfigError(
            f"--gpus-per-worker {chosen:g}: no node of the cluster has more than {most:g} GPUs. "
            "Give fewer, or 0 for the CPU."
        )
    return chosen


def cluster_device(address: str, gpus_per_worker: float | None) -> str:
    """Return the kind of device that the workers of a cluster have: `cuda` or `cpu`."""
    return "cuda" if gpus_of_worker(connect(address), gpus_per_worker) else "cpu"


def _require_port(address: str) -> None:
    """Check that a cluster answers at an address, which Ray itself waits minutes for.

    Raises:
        ConfigError: It has no port, or is of Ray's client.
        NetworkError: None does.
    """
    host, colon, port = address.rpartition(":")
    if not (colon and port.isdecimal()) or "://" in address:
        raise ConfigError(
            f"--address {address!r}: expected HOST:PORT of the cluster, such as 10.0.0.1:6379."
        )
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_S) as found:
            found.settimeout(ANSWER_S)
            is_cluster = os.environ.get("RAY_USE_TLS", "0") != "0" or _speaks_http2(found)
    except TimeoutError:
        is_cluster, why = False, "it does not answer"
    except (OSError, OverflowError) as error:
        is_cluster, why = False, str(error)
    else:
        why = "what listens there is none"
    if not is_cluster:
        raise NetworkError(
            f"No Ray cluster at {address} ({why}). Start one with `ray start --head`, or give "
            "another --address."
        )


def _speaks_http2(connected: socket.socket) -> bool:
    """Return whether a server answers as those of gRPC do, which a cluster's is (RFC 9113, 3.4)."""
    connected.sendall(_PREFACE)
    header = b""
    while len(header) < _FRAME_HEADER_BYTES:
        more = connected.recv(_FRAME_HEADER_BYTES - len(header))
        if not more:
            return False
        header += more
    return header[3] == _SETTINGS


def _environment(gpus: float) -> dict[str, str]:
    """Return variables that workers take over, so that they find what this process finds."""
    names = ("EVALKIT_CACHE", "EVALKIT_COCO", "HF_HUB_OFFLINE", "HF_HOME", "OMP_NUM_THREADS")
    found = {name: os.environ[name] for name in names if name in os.environ}
    return found if gpus else {"OMP_NUM_THREADS": str(_CPUS_PER_WORKER), **found}


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[0] if lines else type(error).__name__
    return text[:200].rstrip(".")
