"""The options of logging to experiment trackers."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from evalkit.core.errors import ConfigError, MissingExtraError
from evalkit.core.files import check_folder
from evalkit.core.registry import unknown
from evalkit.options.offering import Offer, option
from evalkit.options.parsing import names

TRACKERS = {
    "tensorboard": "tensorboard",
    "wandb": "wandb",
    "trackio": "trackio",
    "mlflow": "mlflow",
}
"""Packages of the trackers, by the name that accelerate gives them."""
_FLAG = "--log-to"
_KNOWN = "tensorboard, wandb, trackio or mlflow"


def tracker_names(text: str) -> tuple[str, ...]:
    """Parse the names of trackers.

    Raises:
        UnknownNameError: There is no such tracker.
        ConfigError: There is no name.

    >>> tracker_names("tensorboard, wandb, wandb")
    ('tensorboard', 'wandb')
    """
    found = tuple(dict.fromkeys(names(text)))
    if not found:
        raise ConfigError(f"--log-to {text!r}: name a tracker, {_KNOWN}.")
    for name in found:
        if name not in TRACKERS:
            raise unknown(name, TRACKERS, kind="trackers")
    return found


@dataclass(frozen=True, kw_only=True)
class TrackingOptions:
    """Which experiment trackers get the numbers."""

    log_to: tuple[str, ...] = option(
        (),
        _FLAG,
        f"Comma-separated trackers: {_KNOWN}.",
        typed=str,
        parse=tracker_names,
    )
    log_dir: Path | None = option(  # noqa: RUF009 (makes a field)
        None, "--log-dir", "Folder of the trackers' files. [default: logs/ in the output folder]"
    )
    project: str = option("evalkit", "--log-project", "Project or experiment of the tracker.")

    def check(self) -> None:
        """Check that the trackers are installed, without importing them.

        Raises:
            MissingExtraError: accelerate is not installed.
            ConfigError: A tracker is not installed.
            OutputError: The folder can't be written.
        """
        if self.log_dir is not None:
            check_folder(self.log_dir, "--log-dir")
        if self.log_to and find_spec("accelerate") is None:
            raise MissingExtraError(what=_FLAG, extra="tracking")
        for name in self.log_to:
            if find_spec(TRACKERS[name]) is None:
                raise ConfigError(
                    f"--log-to {name}: the package {TRACKERS[name]} is not installed. Install it: "
                    f"pip install {TRACKERS[name]}."
                )


def _build(fields: dict[str, Any], typed: frozenset[str]) -> TrackingOptions:
    del typed
    options = TrackingOptions(**fields)
    options.check()
    return options


tracking = Offer(record=TrackingOptions, parameter="tracking", build=_build)
"""Replace a command's parameter `tracking` by the options of logging to trackers."""
