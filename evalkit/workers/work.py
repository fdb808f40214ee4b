"""What a worker does: it loads once, then does one task after the other."""

from __future__ import annotations

import importlib.metadata
import platform
import socket
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from evalkit.core.errors import ConfigError, EvalkitError
from evalkit.core.memory import is_out_of_memory, out_of_memory

Advance = Callable[[float], None]
"""Called with the share of a task that is done, from 0 to 1."""
Doing = Callable[[Any, Advance], Any]
"""Does a task's payload, and returns its result."""


@runtime_checkable
class Work(Protocol):
    """Something that a worker can be sent; it is pickled, so it holds no model."""

    def start(self, device: str) -> Doing:
        """Load what the tasks need onto a device; return what does a task."""
        ...


@dataclass(frozen=True)
class Task:
    """A piece of work that is done as a whole, and may be done twice."""

    number: int
    """Its place among the tasks, which names it."""
    payload: Any
    size: int
    """Number of images."""


@dataclass(frozen=True)
class Ready:
    """A worker has loaded its model."""

    worker: int


@dataclass(frozen=True)
class Done:
    """A worker has done its task."""

    worker: int
    result: Any


@dataclass(frozen=True)
class Alive:
    """A sign of life, with the share of the task that is done."""

    worker: int
    share: float


@dataclass(frozen=True)
class Lost:
    """A worker is gone."""

    worker: int
    reason: str


@dataclass(frozen=True)
class Failed:
    """A worker can't do its work, and no other could."""

    worker: int
    message: str
    is_bug: bool
    """Whether the message is a traceback."""


Event = Ready | Done | Alive | Lost | Failed


class WorkerError(EvalkitError, RuntimeError):
    """Work that failed in another process."""


class Session:
    """A worker's side of its work, whatever carries the messages."""

    def __init__(self, work: Work, device: str) -> None:
        self._work = work
        self._device = device
        self._do: Doing | None = None
        self.share = 0.0
        """Of the task in hand."""

    def start(self) -> tuple[str, Any]:
        """Load; return `("ready", None)` or why not."""
        return self._guarded(self._load, "ready")

    def run(self, payload: Any) -> tuple[str, Any]:
        """Do a task; return `("done", result)` or why not."""
        self.share = 0.0
        return self._guarded(lambda: self._done(payload), "done")

    def _load(self) -> None:
        self._do = self._work.start(self._device)

    def _done(self, payload: Any) -> Any:
        assert self._do is not None, "a task before the start"
        return self._do(payload, self._advance)

    def _advance(self, share: float) -> None:
        self.share = share

    def _guarded(self, step: Callable[[], Any], outcome: str) -> tuple[str, Any]:
        """Turn what is raised into a message: of an error its text, of a bug its traceback."""
        try:
            return outcome, step()
        except EvalkitError as error:
            return "error", f"{error}"
        except (MemoryError, RuntimeError) as error:
            if is_out_of_memory(error):
                return "error", str(out_of_memory(error))
            return "bug", traceback.format_exc()
        except BaseException:
            return "bug", traceback.format_exc()


def every(seconds: float, say: Callable[[], bool]) -> threading.Thread:
    """Call a function again and again from a thread, until it returns False."""

    def repeat() -> None:
        while say():
            time.sleep(seconds)

    thread = threading.Thread(target=repeat, daemon=True, name="evalkit-alive")
    thread.start()
    return thread


def check_versions(expected: Mapping[str, str]) -> None:
    """Check that a worker has the libraries of the process that sent its work.

    Raises:
        ConfigError: A version differs, or a library is missing.
    """
    for name, version in expected.items():
        try:
            here = platform.python_version() if name == "python" else _version(name)
        except importlib.metadata.PackageNotFoundError:
            here = "none"
        if here != version:
            raise ConfigError(
                f"Node {socket.gethostname()} has {name} {here}, but the command was started with "
                f"{version}. Install the same versions on all nodes."
            )


def _version(name: str) -> str:
    return importlib.metadata.version(name)
