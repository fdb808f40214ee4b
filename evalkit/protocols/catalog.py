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
    "glide-30k": "glide-30k.toml",
    "unclip-30k": "unclip-30k.toml",
    "dalle-30k": "dalle-30k.toml",
    "ldm-30k": "ldm-30k.toml",
    "sd-card-10k": "sd-card-10k.toml",
    "gigagan-30k": "gigagan-30k.toml",
    "dmd2-30k": "dmd2-30k.toml",
    "karlo-30k": "karlo-30k.toml",
    "mosaic-10k": "mosaic-10k.toml",
    "t2i-benchmark-30k": "t2i-benchmark-30k.toml",
    "heim-30k": "heim-30k.toml",
    "mlperf-5k": "mlperf-5k.toml",
    "cmmd-30k": "cmmd-30k.toml",
    "bksdm-30k": "bksdm-30k.toml",
    "mjhq-playground": "mjhq-playground.toml",
    "mjhq-sana": "mjhq-sana.toml",
    "adm-in64-50k": "adm-in64-50k.toml",
    "adm-in128-50k": "adm-in128-50k.toml",
    "adm-in256-50k": "adm-in256-50k.toml",
    "adm-in512-50k": "adm-in512-50k.toml",
    "dit-in256-50k": "dit-in256-50k.toml",
    "dit-in512-50k": "dit-in512-50k.toml",
    "edm-cifar10-50k": "edm-cifar10-50k.toml",
    "edm-in64-50k": "edm-in64-50k.toml",
    "dmd2-in64-50k": "dmd2-in64-50k.toml",
    "ddpm-cifar10-50k": "ddpm-cifar10-50k.toml",
    "ddim-cifar10-50k": "ddim-cifar10-50k.toml",
    "shapes-1k": "shapes-1k.toml",
}
"""Files in this folder, by their names on the command line."""

NOT_DRAWABLE: dict[str, str] = {
    "uvit-30k": "the draw needs its four GPUs: shuffled loaders seeded 1234 + device index, and a "
    "random caption at each access",
    "repa-40192": "its data loader's workers are unseeded, so the caption of each image is random",
    "openmuse-30k": "the stream of its private shards of train2017 decides the 30,000 records",
    "dreamllm-30k": "the caption is a random choice per device, and the best of 8 seeds by CLIP is "
    "kept",
    "diffsampler-30k": "captions are t2i-benchmark-30k's, but the reference is a statistics file "
    "on a drive whose images are not stated",
    "toca-30k": "its list has 30,003 lines of a pool that is not stated, and its reference is a "
    "statistics file on a drive",
    "esd-30k": "its list is public, but reference, preparation and metric are not stated",
    "dmd2-sdxl-10k": "its captions are a pickle inside an archive, and evalkit unpickles nothing",
    "mosaic-30k": "neither the rule nor the list of the 30,000 captions is stated",
    "if-30k": "neither captions, reference nor preparation are stated (asked in "
    "deep-floyd/IF#131, no answer)",
    "amused-10k": "neither captions, reference nor preparation are stated",
    "kandinsky21-30k": "neither captions, reference nor preparation are stated",
    "pixart-30k": "neither captions, reference nor preparation are stated",
    "instaflow-5k": "neither captions, crop nor Inception are stated",
    "instaflow-30k": "neither captions, crop nor Inception are stated",
    "edm-ffhq64-50k": "evalkit has no reader for FFHQ; give the folder to edm-in64-50k with --data",
    "edm-afhqv2-64-50k": "evalkit has no reader for AFHQv2; give the folder to edm-in64-50k with "
    "--data",
    "edm2-in512-50k": "its reference statistics are a pickle, and evalkit unpickles nothing",
    "adm-lsun-50k": "evalkit has no reader for LSUN; give the folder to adm-in256-50k with --data",
    "repa-in256-50k": "classes are uniform per GPU; as dit-in256-50k otherwise",
    "uvit-in256-50k": "the reference is a statistics file on a drive",
    "score-sde-cifar10-50k": "the reference is a statistics file on a drive",
    "mjhq-hart": "neither prompts nor preparation are stated",
}
"""Protocols that are known, but not well enough to run, with the reason."""

UNNAMED = "unnamed"
"""Name of the protocol of any other data set; it appears in no record."""
UNNAMED_COUNT = 1_000
"""Captions drawn from a data set without a protocol of its own."""


def open_protocol(name: str) -> MeasurementProtocol:
    """Open a protocol by name, or from a TOML file.

    Raises:
        UnknownNameError: No protocol has this name.
        MissingDataError: The file does not exist.
        ConfigError: The file is not a protocol; the message names the first error. Or the
            protocol is known, but not well enough to be run.
    """
    if name in PROTOCOLS:
        return _shipped(name)
    path = Path(name)
    if name in NOT_DRAWABLE:
        raise ConfigError(
            f"{name} can't be run exactly: {NOT_DRAWABLE[name]}. Choose another protocol of "
            "`evalkit protocols list`."
        )
    if path.suffix != ".toml":
        raise unknown(name, PROTOCOLS, kind="protocols")
    found = _read(path)
    if found.name in (*PROTOCOLS, *NOT_DRAWABLE, UNNAMED):
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
