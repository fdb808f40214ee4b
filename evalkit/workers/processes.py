"""Workers as processes of this machine, one for each device, each with its own model."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import connection
from typing import Any

from evalkit.features.decoding import usable_cores
from evalkit.workers.work import Alive, Done, Event, Failed, Lost, Ready, Session, Work, every

_ALIVE_EVERY_S = 0.5
_END_WITHIN_S = 5.0
_THREADS = "OMP_NUM_THREADS"


@dataclass
class _Worker:
    process: Any
    pipe: Any
    device: str


class ProcessPool:
    """A process for each device.

    Args:
        work: What the workers do.
        devices: A device for each, such as `cuda:0`; a CPU may be named several times.
    """

    def __init__(self, work: Work, devices: Sequence[str]) -> None:
        self._work = work
        self._context = multiprocessing.get_context("spawn")
        self._num_cpu = sum(device == "cpu" for device in devices)
        self._workers: dict[int, _Worker] = {}
        self._devices_lost: dict[int, str] = {}
        self._next = 0
        for device in devices:
            self._start(device)

    def pids(self) -> list[int]:
        """Return the process ids of the workers."""
        return [worker.process.pid for worker in self._workers.values()]

    def events(self, timeout_s: float) -> list[Event]:
        """Wait for what the workers say."""
        by_pipe = {worker.pipe: number for number, worker in self._workers.items()}
        found: list[Event] = []
        for pipe in connection.wait(list(by_pipe), timeout_s):
            number = by_pipe[pipe]
            try:
                while self._workers[number].pipe.poll():
                    found.append(_event(number, *self._workers[number].pipe.recv()))
            except (EOFError, OSError):
                worker = self._workers.pop(number)
                worker.process.join(_END_WITHIN_S)
                found.append(Lost(number, _how_it_ended(worker.process.exitcode)))
                self._devices_lost[number] = worker.device
        return found

    def send(self, worker: int, payload: Any) -> None:
        """Give a worker a task; if it is gone, `events` says so."""
        with suppress(OSError):
            self._workers[worker].pipe.send(payload)

    def kill(self, worker: int) -> None:
        """End a worker, even a stopped one."""
        ended = self._workers.pop(worker)
        ended.process.kill()
        ended.process.join(_END_WITHIN_S)
        ended.pipe.close()
        self._devices_lost[worker] = ended.device

    def replace(self, worker: int) -> None:
        """Start another process on the device of a lost one."""
        self._start(self._devices_lost.pop(worker))

    def close(self) -> None:
        """End all workers: idle ones by themselves, others at once."""
        for worker in self._workers.values():
            with suppress(OSError):
                worker.pipe.send(None)
        for worker in self._workers.values():
            worker.process.join(0.5)
        for worker in self._workers.values():
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join(_END_WITHIN_S)
            worker.pipe.close()
        self._workers.clear()

    def _start(self, device: str) -> None:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(
            target=_serve, args=(theirs, self._work, device), daemon=False, name="evalkit-worker"
        )
        with _threads_for(self._num_cpu if device == "cpu" else 0):
            process.start()
        theirs.close()
        self._workers[self._next] = _Worker(process, ours, device)
        self._next += 1


@contextmanager
def _threads_for(num_cpu_workers: int) -> Iterator[None]:
    """Divide the cores among workers of the CPU, unless the user has decided."""
    if not num_cpu_workers or _THREADS in os.environ:
        yield
        return
    os.environ[_THREADS] = str(max(1, usable_cores() // num_cpu_workers))
    try:
        yield
    finally:
        del os.environ[_THREADS]


def _serve(pipe: Any, work: Work, device: str) -> None:
    """Run in the worker: load, then do what comes through the pipe until it says None."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the driver, which ends workers
    session, sending = Session(work, device), threading.Lock()

    def say(kind: str, value: Any) -> None:
        with sending:
            pipe.send((kind, value))

    def alive() -> bool:
        try:
            say("alive", session.share)
        except OSError:
            os._exit(1)  # the driver is gone: end in the middle of whatever this is
        return True

    every(_ALIVE_EVERY_S, alive)
    with suppress(EOFError, OSError):
        say(*session.start())
        while (payload := pipe.recv()) is not None:
            say(*session.run(payload))
    os._exit(0)  # no handler of a library may keep the process


def _event(worker: int, kind: str, value: Any) -> Event:
    if kind == "ready":
        return Ready(worker)
    if kind == "done":
        return Done(worker, value)
    if kind == "alive":
        return Alive(worker, value)
    return Failed(worker, value, is_bug=kind == "bug")


def _how_it_ended(code: int | None) -> str:
    if code is None:
        return "its pipe was closed"
    if code < 0:
        name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
        memory = ", perhaps for lack of memory" if name == "SIGKILL" else ""
        return f"ended by {name}{memory}"
    return f"ended with code {code}"
