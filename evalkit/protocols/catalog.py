"""The embedded protocols by name, and how to open one."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from pydantic import ValidationError

from evalkit.catalog import DATASETS, METRICS
from evalkit.core.errors import ConfigError
from evalkit.core.registry import unknown
from evalkit.core.tables import read_toml
from evalkit.protocols.model import MeasurementProtocol

PROTOCOLS: dict[str, str] = {
    "imagen-30k": "imagen-30k.toml",
    "shapes-1k": "shapes-1k.toml",
}
"""Files in this folder, by their names on the command line."""

UNNAMED = "unnamed"
"""Name of the protocol of any other data set; it appears in no record."""
UNNAMED_COUNT = 1_000
"""Captions drawn from a data set without a protocol of its own."""


def open_protocol(name: str) -> MeasurementProtocol:
    """Open a protocol by name, or from a TOML file.

    Raises:
        UnknownNameError: No protocol has this name.
        MissingDataError: The file does not exist.
        ConfigError: The file is not a protocol; the message names the first error.
    """
    if name in PROTOCOLS:
        return _shipped(name)
    path = Path(name)
    if path.suffix != ".toml":
        raise unknown(name, PROTOCOLS, kind="protocols")
    found = _read(path)
    if found.name in (*PROTOCOLS, UNNAMED):
        raise ConfigError(
            f"{path}: the name {found.name!r} belongs to a protocol of evalkit. Choose another "
            "name."
        )
    return found


def protocol_for(dataset: str) -> MeasurementProtocol:
    """Return the protocol that a data set implies.

    Any other data set is prepared as `imagen-30k` prepares COCO, and at most `UNNAMED_COUNT` of its
    captions are drawn.
    """
    row = DATASETS.get(dataset)
    if row is not None and row.protocol:
        return open_protocol(row.protocol)
    imagen = _shipped("imagen-30k")
    return imagen.model_copy(
        update={
            "name": UNNAMED,
            "dataset": dataset,
            "captions": imagen.captions.model_copy(update={"count": UNNAMED_COUNT}),
            "metrics": ("fid", "clip-score", "composition"),
        }
    )


@cache
def _shipped(name: str) -> MeasurementProtocol:
    return _read(Path(__file__).with_name(PROTOCOLS[name]))


def _read(path: Path) -> MeasurementProtocol:
    document = read_toml(path, what="a protocol")
    try:
        protocol = MeasurementProtocol.model_validate(document)
    except ValidationError as error:
        raise ConfigError(f"{path}: {_first_fault(error)}.") from error
    for metric in protocol.metrics:
        if metric not in METRICS:
            fault = unknown(metric, METRICS, kind="metrics")
            raise ConfigError(f"{path}: metrics: {str(fault).removesuffix('.')}.")
    return protocol


def _first_fault(error: ValidationError) -> str:
    first = error.errors()[0]
    where = _short(".".join(map(str, first["loc"]))) or "the protocol"
    what = first["msg"].removeprefix("Value error, ").removesuffix(".")
    if first["type"] not in ("value_error", "missing"):
        what += f", got {_short(repr(first['input']))}"
    return f"{where}: {_short(what, 300)}"


def _short(text: str, most: int = 80) -> str:
    line = " ".join(text.split())
    return line if len(line) <= most else f"{line[: most - 3]}..."
