"""Reference statistics in files: evalkit's own, and those of other tools.

| written by | arrays |
|---|---|
| evalkit | `mu`, `sigma`, `n`, `identity` (the extractor, as JSON) |
| pytorch-fid, clean-fid | `mu`, `sigma` |
| clean-fid (KID) | `feats` |
| ADM's evaluator | `mu`, `sigma`, `mu_s`, `sigma_s`, and some of the images: `arr_0` |

Only evalkit's name their extractor; for the others only the dimensions can be checked.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from evalkit.core.arrays import open_npz
from evalkit.core.downloads import sha256_of
from evalkit.core.errors import DataError, MissingDataError
from evalkit.core.results import write_atomically
from evalkit.core.tables import parse_json
from evalkit.metrics.frechet.moments import Moments

_FOREIGN_LAYERS = {"mu": "2048", "mu_s": "spatial"}


@dataclass(frozen=True, kw_only=True)
class ReferenceStatistics:
    """A reference of which only statistics are known, not the images."""

    moments: Mapping[str, Moments]
    """Moments by layer."""
    features: Mapping[str, np.ndarray] = field(default_factory=dict)
    """Features by layer, if the file has them."""
    identity: Mapping[str, Any] | None = None
    """The extractor; None if the file does not say."""
    source: str = ""
    """Name of the file."""
    sha256: str = ""
    """Hash of the file."""
    has_images: bool = False
    """Whether the file holds images too, `arr_0`, for metrics that need them."""


def read_statistics(path: Path | str) -> ReferenceStatistics:
    """Read a statistics file of evalkit, pytorch-fid, clean-fid or ADM.

    Raises:
        MissingDataError: The file does not exist.
        DataError: The file is not a statistics file, or has damaged values.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingDataError(f"{path}: no such file. Give a statistics .npz.")
    with open_npz(path, what="a statistics file") as stored:
        wanted = {"mu", "sigma", "mu_s", "sigma_s", "n", "identity", "feats"}
        arrays = {name: stored.read(name) for name in stored.names if name in wanted}
        names = list(stored.names)
    for one, other in (("mu", "sigma"), ("mu_s", "sigma_s")):
        if one in arrays and other not in arrays:
            raise DataError(f"{path}: found {names}, but {one} needs {other}. Write it again.")
    if not {"mu", "feats", "mu_s"} & arrays.keys():
        raise DataError(f"{path}: found {names}, expected mu and sigma, or feats.")
    try:
        return replace(_from_arrays(arrays, path), has_images="arr_0" in names)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error


def is_statistics_file(path: Path | str) -> bool:
    """Return whether a file is an `.npz` with `mu` or `feats`, and not a batch of images."""
    path = Path(path)
    if path.suffix != ".npz" or not zipfile.is_zipfile(path):
        return False
    with open_npz(path) as stored:
        return bool({"mu", "feats"} & {*stored.names})


def write_statistics(
    path: Path | str,
    moments: Moments,
    identity: Mapping[str, Any],
    *,
    spatial: Moments | None = None,
) -> None:
    """Write mean and covariance with the extractor that made them.

    pytorch-fid and clean-fid read the file too, and so does ADM's evaluator if it has the spatial
    statistics; all of them ignore unknown arrays.

    Args:
        path: The file, which should end in `.npz`.
        moments: The moments of the main layer.
        identity: The extractor's identity, with the layer under `layer`.
        spatial: Moments of the layer `spatial`, under ADM's names.
    """
    buffer = BytesIO()
    text = json.dumps(dict(identity), sort_keys=True)
    arrays = {"mu": moments.mean, "sigma": moments.covariance, "identity": np.array(text)}
    if spatial is not None:
        arrays |= {"mu_s": spatial.mean, "sigma_s": spatial.covariance}
    if moments.n is not None:
        arrays["n"] = np.array(moments.n)
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    write_atomically(Path(path), buffer.getvalue())


def refuse_other_extractor(
    reference: ReferenceStatistics, identity: Mapping[str, Any], layer: str
) -> None:
    """Check that the statistics were computed with the extractor of the samples' features.

    Raises:
        DataError: Names the first difference.
    """
    if reference.identity is None:
        return
    wanted = {**identity, "layer": layer}
    if layer == "spatial" and reference.identity.get("layer") != "spatial":
        wanted["layer"] = reference.identity.get("layer")  # ADM's names keep both layers apart
    for key in sorted({*wanted, *reference.identity}):
        theirs, ours = reference.identity.get(key), wanted.get(key)
        if key != "preparation" and theirs != ours:
            raise DataError(
                f"{reference.source}: made with {key} {theirs!r}, the samples with {ours!r}. "
                "Statistics of another extractor are not comparable. Compute them again."
            )


def refuse_other_preparation(
    reference: ReferenceStatistics,
    preparation: Mapping[str, Any],
    protocol: str,
    stated: Mapping[str, Any] | None = None,
) -> None:
    """Check that the statistics' images were prepared as a protocol says.

    A file of another tool does not say; it is accepted, and the record is marked, unless others
    state it.

    Args:
        reference: The statistics.
        preparation: The preparation that the protocol says.
        protocol: Its name.
        stated: How the images were prepared, where the file doesn't say.

    Raises:
        DataError: Names the first difference.
    """
    theirs = (reference.identity or {}).get("preparation") or stated
    if not theirs:
        return
    for key in sorted({*theirs, *preparation}):
        if theirs.get(key) != preparation.get(key):
            raise DataError(
                f"{reference.source}: the reference was prepared with {key} {theirs.get(key)!r}, "
                f"but {protocol} says {preparation.get(key)!r}. Compute the statistics again with "
                f"evalkit statistics --protocol {protocol}."
            )


def _from_arrays(arrays: Mapping[str, np.ndarray], path: Path) -> ReferenceStatistics:
    identity = _identity(arrays["identity"]) if "identity" in arrays else None
    num = _count(arrays["n"]) if "n" in arrays else None
    moments: dict[str, Moments] = {}
    features: dict[str, np.ndarray] = {}
    if "feats" in arrays:
        features["2048"] = _numbers(arrays["feats"], "feats")
        moments["2048"] = Moments.from_features(features["2048"])
    for mean, layer in _FOREIGN_LAYERS.items():
        if mean in arrays:
            name = identity["layer"] if identity and mean == "mu" else layer
            sigma = mean.replace("mu", "sigma")
            moments[name] = Moments.from_statistics(
                _numbers(arrays[mean], mean), _numbers(arrays[sigma], sigma), num
            )
    return ReferenceStatistics(
        moments=moments,
        features=features,
        identity=identity,
        source=str(path),
        sha256=sha256_of(path),
    )


def _identity(array: np.ndarray) -> Mapping[str, Any]:
    found = parse_json(str(array), source="identity")
    if not isinstance(found, dict) or not isinstance(found.get("layer"), str):
        raise DataError("identity is not that of an extractor. Compute the statistics again.")
    if not isinstance(found.get("preparation", {}), dict):
        raise DataError("identity has no readable preparation. Compute the statistics again.")
    return found


def _count(array: np.ndarray) -> int:
    if array.shape != () or array.dtype.kind not in "iu" or int(array) < 1:
        raise DataError(
            f"n is {array.ravel()[:3].tolist()}, expected a number of images, 1 or more."
        )
    return int(array)


def _numbers(array: np.ndarray, name: str) -> np.ndarray:
    if array.dtype.kind not in "fiu":
        raise DataError(f"{name} holds {array.dtype}, expected real numbers.")
    return array
