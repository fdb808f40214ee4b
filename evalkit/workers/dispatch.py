"""Hand out tasks to workers, and again what a lost worker had in hand.

Nothing is remembered but the tasks in hand and those to do again, so memory doesn't grow with the
number of tasks. What is done is on disk: a driver that is started again asks the run folder.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any, Protocol, runtime_checkable

from evalkit.core.progress import log_event
from evalkit.workers.work import Alive, Done, Event, Failed, Lost, Ready, Task, WorkerError

MOST_LOSSES = 3
"""Workers that one task may cost, or that may be lost in a row before they have loaded."""
_POLL_S = 0.5


@runtime_checkable
class Pool(Protocol):
    """Workers of one kind."""

    def events(self, timeout_s: float) -> list[Event]:
        """Wait for what the workers say."""
        ...

    def send(self, worker: int, payload: Any) -> None:
        """Give a worker a task."""
        ...

    def kill(self, worker: int) -> None:
        """End a worker that hangs; it is not heard of again."""
        ...

    def replace(self, worker: int) -> None:
        """Start another worker in the place of a lost one."""
        ...

    def close(self) -> None:
        """End all workers."""
        ...


def run_tasks(
    pool: Pool,
    tasks: Iterable[Task],
    *,
    on_done: Callable[[Task, Any], None],
    on_share: Callable[[float], None] = lambda images: None,
    worker_timeout_s: float,
    batch_timeout_s: float = 0.0,
) -> None:
    """Do every task, each at least once.

    Args:
        pool: The workers; closed at the end.
        tasks: The tasks; each is asked for when a worker is free for it.
        on_done: Called with a task and its result.
        on_share: Called with the images in hand that are made, as a fraction.
        worker_timeout_s: A worker that says nothing for this long is replaced.
        batch_timeout_s: A task may take this long; 0: any time.

    Raises:
        WorkerError: A worker reported an error, or a task cost several workers.
        RuntimeError: A worker had a bug; the message is its traceback.
    """
    dispatcher = _Dispatcher(pool, tasks, on_done, on_share, worker_timeout_s, batch_timeout_s)
    try:
        while dispatcher.step():
            pass
    finally:
        pool.close()


class _Dispatcher:
    def __init__(
        self,
        pool: Pool,
        tasks: Iterable[Task],
        on_done: Callable[[Task, Any], None],
        on_share: Callable[[float], None],
        worker_timeout_s: float,
        batch_timeout_s: float,
    ) -> None:
        self._pool = pool
        self._tasks = iter(tasks)
        self._on_done = on_done
        self._on_share = on_share
        self._worker_timeout_s = worker_timeout_s
        self._batch_timeout_s = batch_timeout_s
        self._again: list[Task] = []
        self._losses: dict[int, int] = {}
        """Workers that a task cost so far, by its number."""
        self._early_losses = 0
        self._idle: list[int] = []
        self._in_hand: dict[int, tuple[Task, float]] = {}
        self._heard: dict[int, float] = {}
        self._shares: dict[int, float] = {}
        self._next = self._take()

    def step(self) -> bool:
        """Hear the workers, hand out tasks; return whether any are left."""
        if self._next is None and not self._in_hand:
            return False
        for event in self._pool.events(_POLL_S):
            self._hear(event)
        self._replace_silent()
        while self._idle and self._next is not None:
            worker = self._idle.pop()
            now = time.monotonic()
            self._in_hand[worker] = (self._next, now)
            self._heard[worker] = now
            self._pool.send(worker, self._next.payload)
            self._next = self._take()
        return True

    def _take(self) -> Task | None:
        return self._again.pop() if self._again else next(self._tasks, None)

    def _hear(self, event: Event) -> None:
        worker = event.worker
        self._heard[worker] = time.monotonic()
        match event:
            case Ready():
                self._early_losses = 0
                self._idle.append(worker)
            case Alive():
                if worker in self._in_hand:
                    self._shares[worker] = event.share * self._in_hand[worker][0].size
                    self._on_share(sum(self._shares.values()))
            case Done():
                task, _ = self._in_hand.pop(worker)
                self._shares.pop(worker, None)
                self._idle.append(worker)
                self._losses.pop(task.number, None)
                self._on_done(task, event.result)
            case Failed():
                if event.is_bug:
                    bug = f"A worker had a bug.\n{event.message}"
                    raise RuntimeError(bug)
                raise WorkerError(event.message)
            case Lost():
                self._lose(worker, event.reason)

    def _lose(self, worker: int, reason: str) -> None:
        self._heard.pop(worker, None)
        self._shares.pop(worker, None)
        self._idle = [one for one in self._idle if one != worker]
        task, _ = self._in_hand.pop(worker, (None, 0.0))
        log_event(
            "worker lost",
            f"a worker was lost ({reason}); its batch is made again by another",
            worker=worker,
            reason=reason,
            batch=None if task is None else task.number,
        )
        if task is None:
            self._early_losses += 1
            if self._early_losses >= MOST_LOSSES:
                raise WorkerError(
                    f"{MOST_LOSSES} workers in a row were lost before they could work ({reason}). "
                    "Look at memory and drivers; what is finished is kept."
                )
        else:
            self._losses[task.number] = self._losses.get(task.number, 0) + 1
            if self._losses[task.number] >= MOST_LOSSES:
                raise WorkerError(
                    f"Batch {task.number} cost {MOST_LOSSES} workers ({reason}). Look at memory, "
                    "or choose a smaller --batch-size; what is finished is kept."
                )
            self._again.append(task)
            if self._next is None:
                self._next = self._take()
        self._pool.replace(worker)

    def _replace_silent(self) -> None:
        now = time.monotonic()
        for worker, heard in list(self._heard.items()):
            silent_s = now - heard
            busy_s = now - self._in_hand[worker][1] if worker in self._in_hand else 0.0
            if silent_s > self._worker_timeout_s:
                self._end(worker, f"no sign of life for {silent_s:.0f} s")
            elif self._batch_timeout_s and busy_s > self._batch_timeout_s:
                self._end(worker, f"one batch took more than {self._batch_timeout_s:.0f} s")

    def _end(self, worker: int, reason: str) -> None:
        self._pool.kill(worker)
        self._lose(worker, reason)
