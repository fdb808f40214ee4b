"""Progress: on a terminal a bar, elsewhere a line a minute; each with the rate and the time left.

Code that does the work far below the bar, such as a sampler's steps or a metric's blocks, calls
`advance`; whoever opened the bar decides with `heard_by` what that means for it.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime

from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

console = Console()
errors = Console(stderr=True, soft_wrap=True)

LINE_EVERY_S = 60.0
"""Seconds between the lines of a task, where there is no terminal."""

PIPED_WIDTH = 10_000
"""Characters of a line where nobody reads it on a screen: enough for any row of a list."""


def print_list(*tables: RenderableType) -> None:
    """Print lists: on a terminal to its width, elsewhere with each row on one line.

    The environment's COLUMNS decides the width if it is set, as for any output of rich.
    """
    piped = not console.is_terminal and "COLUMNS" not in os.environ
    listing = Console(width=PIPED_WIDTH) if piped else console
    for table in tables:
        listing.print(table)


ProgressCallback = Callable[[float, int], None]
"""Called with (done, total); a part of an item counts as a fraction."""
ProgressFactory = Callable[[str], AbstractContextManager[ProgressCallback]]
"""Called with a description of the work; `progress_bar` and `silent` are two."""


@dataclass
class TaskState:
    """How far a task is."""

    description: str
    started: float
    first: float | None = None
    """What was done at the first report, which may have been done by an earlier command."""
    done: float = 0.0
    total: int | None = None
    note: str = ""
    """A further figure, such as the loss."""
    on_report: Callable[[], None] = lambda: None
    """Called after each report."""

    def report(self, done: float, total: int, note: str = "") -> None:
        """Take in a report."""
        if self.first is None:
            self.first, self.started = done, time.monotonic()
        self.done, self.total, self.note = done, total, note
        self.on_report()

    def as_dict(self, now: float) -> dict[str, object]:
        """Return the state for a line of JSON; rates are per second, times in seconds."""
        elapsed = now - self.started
        rate = (self.done - (self.first or 0.0)) / elapsed if elapsed > 0 else 0.0
        left = (self.total - self.done) / rate if rate > 0 and self.total is not None else None
        return {
            "event": "progress",
            "task": self.description,
            "done": self.done,
            "total": self.total,
            "rate_per_s": rate,
            "left_s": left,
        }

    def line(self, now: float) -> str:
        """Return the state in one line: what is done, the rate, the time left.

        >>> state = TaskState("Sampling", 0.0, first=0.0, done=30.0, total=90)
        >>> state.line(60.0)
        'Sampling: 30 of 90, 0.5/s, 0:02:00 left'
        """
        elapsed = now - self.started
        if self.total is None:
            return f"{self.description}: {clock(elapsed)} so far"
        parts = [f"{self.description}: {int(self.done):,} of {self.total:,}"]
        rate = (self.done - (self.first or 0.0)) / elapsed if elapsed > 0 else 0.0
        if rate > 0:
            parts.append(_rate(rate))
            parts.append(f"{clock((self.total - self.done) / rate)} left")
        return ", ".join([*parts, *([self.note] if self.note else [])])


_LOG = {"json": False}


def log_as_json(chosen: bool) -> None:
    """Print progress and events as lines of JSON, for the tools that collect logs."""
    _LOG["json"] = chosen


def log_event(event: str, text: str, **fields: object) -> None:
    """Print something that happened to the work, such as a lost worker.

    Args:
        event: Its name, for programs.
        text: What a reader is told.
        fields: Further values, for programs.
    """
    if _LOG["json"]:
        _print_json({"event": event, "text": text, **fields})
    else:
        errors.print(f"note: {text}", highlight=False, markup=False)


def _print_json(fields: dict[str, object]) -> None:
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    errors.print(json.dumps({"time": now, **fields}), highlight=False, markup=False)


_open_tasks: list[TaskState] = []
"""The tasks that are running, the innermost last."""
_stopped: list[TaskState] = []
"""The tasks that an exception ended, the innermost first."""
_listener: ContextVar[ProgressCallback | None] = ContextVar("listener", default=None)


@contextmanager
def heard_by(listener: ProgressCallback) -> Iterator[None]:
    """Pass what `advance` says inside the block to a listener."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


def advance(done: float, total: int) -> None:
    """Say how far the work in hand is; without a listener nothing happens."""
    listener = _listener.get()
    if listener is not None:
        listener(done, total)


def where_it_stopped() -> str:
    """Say what the innermost task that an exception ended had done; empty if there was none."""
    state = next((task for task in _stopped if task.total is not None), None)
    if state is None:
        return ""
    return f"{state.description}: {int(state.done):,} of {state.total:,}"


def clock(seconds: float) -> str:
    """Format a duration.

    >>> clock(3725.4)
    '1:02:05'
    """
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"


@contextmanager
def quiet() -> Iterator[None]:
    """Print no notes inside the block; errors are raised all the same."""
    before, console.quiet = console.quiet, True
    try:
        yield
    finally:
        console.quiet = before


@contextmanager
def silent(description: str) -> Iterator[ProgressCallback]:
    """Show no progress."""
    del description
    yield lambda done, total: None


def _rate(per_s: float) -> str:
    """Format a rate per second, or per minute where that is less than 0.1."""
    return f"{per_s:.1f}/s" if per_s >= 0.1 else f"{60 * per_s:.1f}/min"


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else _rate(speed), style="progress.data.speed")


@contextmanager
def progress_bar(description: str) -> Iterator[ProgressCallback]:
    """Show progress on stderr; call the yielded function with (done, total)."""
    with _task(description) as state:
        yield state.report


@contextmanager
def training_bar(description: str) -> Iterator[Callable[[int, int, float], None]]:
    """Show progress with the loss; call the yielded function with (step, steps, loss)."""
    with _task(description) as state:
        yield lambda step, steps, loss: state.report(step, steps, f"loss {loss:.4f}")


@contextmanager
def _task(description: str) -> Iterator[TaskState]:
    """Show a task until the block ends, on a bar or by lines."""
    state = TaskState(description, time.monotonic())
    if not _open_tasks:
        _stopped.clear()
    _open_tasks.append(state)
    shown = _on_bar if errors.is_terminal and not _LOG["json"] else _by_lines
    try:
        with shown(state):
            yield state
    except BaseException:
        _stopped.append(state)
        raise
    finally:
        _open_tasks.pop()


@contextmanager
def _on_bar(state: TaskState) -> Iterator[None]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(),
        TextColumn("{task.fields[note]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=errors) as bar:
        task = bar.add_task(state.description, total=None, note="")

        def show() -> None:
            bar.update(task, completed=state.done, total=state.total, note=state.note)

        state.on_report = show
        yield


@contextmanager
def _by_lines(state: TaskState) -> Iterator[None]:
    """Print a line a minute from a thread, so that it comes whether or not the work reports."""
    ended, began = threading.Event(), time.monotonic()

    def print_lines() -> None:
        while not ended.wait(LINE_EVERY_S):
            if _open_tasks[-1:] == [state]:  # not while a task inside it prints its own
                now = time.monotonic()
                if _LOG["json"]:
                    _print_json(state.as_dict(now))
                else:
                    errors.print(state.line(now), highlight=False, markup=False)

    thread = threading.Thread(target=print_lines, daemon=True, name="evalkit-progress")
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
    elapsed = time.monotonic() - began
    if _LOG["json"]:
        ended_fields: dict[str, object] = {"event": "ended", "task": state.description}
        _print_json({**ended_fields, "total": state.total, "elapsed_s": round(elapsed, 3)})
    elif elapsed > LINE_EVERY_S:
        counted = f"{state.total:,} in " if state.total is not None else ""
        errors.print(f"{state.description}: {counted}{clock(elapsed)}", highlight=False)
