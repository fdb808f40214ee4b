"""Numbers handed on to experiment trackers, by accelerate's classes for them.

A record becomes up to three scalars: `NAME`, `NAME/low` and `NAME/high`. What has no value is left
out, since a tracker knows no state.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evalkit.core.errors import ConfigError
from evalkit.core.files import check_folder, writing
from evalkit.core.progress import errors
from evalkit.core.registry import load, require
from evalkit.core.results import ResultRecord
from evalkit.options.tracking import TrackingOptions

LOG_FOLDER = "logs"
"""Folder of the trackers' files, in the output folder of a command."""
Configuration = Mapping[str, str | int | float | bool]
_ARGUMENTS: dict[str, Callable[[str, str, str], dict[str, Any]]] = {
    "tensorboard": lambda project, name, folder: {"run_name": name, "logging_dir": folder},
    "wandb": lambda project, name, folder: {"run_name": project, "name": name, "dir": folder},
    "trackio": lambda project, name, folder: {"run_name": project, "name": name},
    "mlflow": lambda project, name, folder: {"experiment_name": project, "run_name": name},
}
"""Arguments of each tracker's class of accelerate, whose `run_name` is the project for some."""
_FAULTS = {"wandb": "wandb.errors:Error", "mlflow": "mlflow.exceptions:MlflowException"}
"""What trackers with a server raise where it refuses or is unreachable."""


def scalars(records: Iterable[ResultRecord]) -> dict[str, float]:
    """Return the values of records and the ends of their intervals, by name.

    Of several records of one name, such as those of categories, the first counts.

    >>> record = ResultRecord(metric="fid", value=12.5, n=10, direction="lower")
    >>> scalars([record])
    {'fid': 12.5}
    """
    found: dict[str, float] = {}
    for record in records:
        if record.value is None or record.metric in found:
            continue
        found[record.metric] = record.value
        if record.interval is not None:
            found[f"{record.metric}/low"] = record.interval.low
            found[f"{record.metric}/high"] = record.interval.high
    return found


@dataclass
class TrackerLog:
    """The trackers of one command; they start at the first number."""

    options: TrackingOptions
    name: str
    """Name of the run in the trackers."""
    folder: Path
    """Folder of the trackers' files."""
    configuration: Configuration
    """What they show beside the numbers."""
    _started: dict[str, Any] | None = field(default=None, init=False)
    """The running trackers, by name."""

    def start(self) -> None:
        """Start the trackers, unless they are running; no tracker imports nothing.

        Raises:
            OutputError: The folder can't be written.
            ConfigError: A tracker's server refuses or is unreachable.
        """
        if self._started is not None or not self.options.log_to:
            return
        accelerate = require("accelerate", extra="tracking", what="--log-to")
        from accelerate.tracking import LOGGER_TYPE_TO_CLASS

        accelerate.PartialState()  # which its classes need; a training has made it already
        with writing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        self._started = {}
        for kind in self.options.log_to:
            arguments = _ARGUMENTS[kind](self.options.project, self.name, str(self.folder))
            tracker = LOGGER_TYPE_TO_CLASS[kind](**arguments)
            try:
                tracker.start()
                tracker.store_init_configuration(dict(self.configuration))
            except _faults(kind) as error:
                raise ConfigError(
                    f"--log-to {kind}: it can't start ({_one_line(error)}). Log in, start its "
                    "server, or use it offline (docs/training.md)."
                ) from error
            self._started[kind] = tracker

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Log numbers at a step; a server that fails meanwhile gets a note, and no more numbers."""
        self.start()
        self._with_each(lambda tracker: tracker.log(dict(values), step=step))

    def finish(self) -> None:
        """Close the trackers that were started."""
        self._with_each(lambda tracker: tracker.finish())
        self._started = None

    def _with_each(self, do: Callable[[Any], None]) -> None:
        for kind, tracker in list((self._started or {}).items()):
            try:
                do(tracker)
            except _faults(kind) as error:
                assert self._started is not None
                del self._started[kind]
                errors.print(
                    f"note: {kind} failed and gets no more numbers ({_one_line(error)}).",
                    highlight=False,
                    markup=False,
                )


def _faults(kind: str) -> tuple[type[Exception], ...]:
    """Return the class of a tracker's own errors; it is imported already."""
    return (load(_FAULTS[kind]),) if kind in _FAULTS else ()


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:160].rstrip(".")


@contextmanager
def tracker_log(
    options: TrackingOptions,
    *,
    name: str,
    out: Path,
    configuration: Configuration | None = None,
    at_once: bool = True,
) -> Iterator[TrackerLog]:
    """Log to the chosen trackers inside the block, and close them after it.

    Args:
        options: The trackers.
        name: Name of the run in the trackers.
        out: Output folder of the command.
        configuration: What they show beside the numbers.
        at_once: Start the trackers now, so that what keeps one from starting is known before the
            work; otherwise at the first number.

    Raises:
        OutputError: The folder of the trackers can't be written.
        ConfigError: A tracker's server refuses or is unreachable.
    """
    folder = options.log_dir or out / LOG_FOLDER
    if options.log_to:
        check_folder(folder, "--log-dir")
    found = TrackerLog(options, name, folder, configuration or {})
    try:
        if at_once:
            found.start()
        yield found
    finally:
        found.finish()
