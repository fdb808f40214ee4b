"""A function of one's own as a generator: `python:MODULE:FUNCTION`.

The function takes a list of prompts and a list of seeds, and returns one image per prompt: PIL
images, arrays (height x width x 3, uint8, or floats in [0, 1]) or tensors (3 x height x width, of
the same ranges). `None` in the place of an image is a failure. Type, range and size are checked.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from PIL import Image

from evalkit.core.errors import ConfigError
from evalkit.core.pixels import from_pil
from generators.base import (
    UNKNOWN_PRECISION,
    GeneratorSpec,
    Request,
    Sample,
    Settings,
)
from generators.errors import BadImageError, UnsupportedRequestError

ROUNDING = 1e-3
"""By how much a float may leave [0, 1] before it counts as another range."""
_SHAPES = "height x width x 3 for arrays, 3 x height x width for tensors"

Function = Callable[[list[str], list[int]], Sequence[Any]]


class FunctionGenerator:
    """A function of prompts and seeds behind the interface of generators."""

    def __init__(self, spec: GeneratorSpec, function: Function) -> None:
        self.spec = spec
        self._function = function
        self._size: tuple[int, int] | None = None

    def generate(self, requests: Sequence[Request], settings: Settings) -> list[Sample]:
        """Call the function with one batch.

        Raises:
            UnsupportedRequestError: A request has no prompt.
            BadImageError: The function returned another number of images, or an image of another
                type, range or size.
        """
        del settings
        prompts = [request.prompt for request in requests if request.prompt is not None]
        if len(prompts) < len(requests):
            raise UnsupportedRequestError(f"{self.spec.name} needs a prompt in every request.")
        found = self._function(prompts, [request.seed for request in requests])
        if not hasattr(found, "__len__") or len(found) != len(requests):
            got = f"{len(found)} images" if hasattr(found, "__len__") else type(found).__name__
            raise BadImageError(
                f"{self.spec.name} returned {got} for {len(requests)} prompts; return a list with "
                "one image per prompt."
            )
        return [self._sample(image, number) for number, image in enumerate(found, start=1)]

    def _sample(self, image: Any, number: int) -> Sample:
        if image is None:
            return Sample(image=None, status="failed", reason="the function returned None")
        where = f"{self.spec.name}: image {number} of the batch"
        pixels = to_pixels(image, where)
        if pixels is None:
            reason = "the function returned values that are not finite (NaN)"
            return Sample(image=None, status="failed", reason=reason)
        size = pixels.shape[:2]
        self._size = self._size or size
        if size != self._size:
            raise BadImageError(
                f"{where} has {size[1]} x {size[0]} px, the first image had {self._size[1]} x "
                f"{self._size[0]}. Return images of one size."
            )
        return Sample(image=pixels)


def to_pixels(image: Any, where: str) -> np.ndarray | None:
    """Convert an image of any kind to uint8, height x width x 3; None if it is not finite.

    Args:
        image: A PIL image, an array or a tensor.
        where: Its name in errors.

    Raises:
        BadImageError: Another type, shape or range.
    """
    if isinstance(image, Image.Image):
        return from_pil(image, name=where)
    values = _channels_last(image, where)
    if values.dtype == np.uint8:
        return _three_channels(values)
    if values.dtype.kind != "f":
        raise BadImageError(
            f"{where} has values of type {values.dtype}; expected uint8 in 0 to 255, or floats in "
            "0 to 1."
        )
    if not np.isfinite(values).all():
        return None
    low, high = float(values.min()), float(values.max())
    if low < -ROUNDING or high > 1 + ROUNDING:
        raise BadImageError(
            f"{where} has floats from {low:g} to {high:g}; expected 0 to 1. Scale them, or return "
            "uint8 in 0 to 255."
        )
    levels = np.rint(values.astype(np.float64).clip(0, 1) * 255).astype(np.uint8)
    return _three_channels(levels)


def _channels_last(image: Any, where: str) -> np.ndarray:
    """Return an array of height x width x channels, of which there are 1 or 3."""
    if hasattr(image, "detach"):  # a torch tensor, without importing torch
        tensor = image.detach().cpu()
        if tensor.is_floating_point():
            tensor = tensor.float()
        values = tensor.numpy()
        values = values.transpose(1, 2, 0) if values.ndim == 3 else values
    elif isinstance(image, np.ndarray):
        values = image
    else:
        raise BadImageError(
            f"{where} is a {type(image).__name__}; expected a PIL image, an array or a tensor."
        )
    if values.ndim == 2:
        values = values[..., None]
    if values.ndim != 3 or values.shape[2] not in (1, 3) or 0 in values.shape:
        raise BadImageError(
            f"{where} has the shape {' x '.join(map(str, image.shape))}; expected {_SHAPES}."
        )
    return values


def _three_channels(levels: np.ndarray) -> np.ndarray:
    repeated = np.repeat(levels, 3, axis=2) if levels.shape[2] == 1 else levels
    return np.ascontiguousarray(repeated)


def check(name: str, weights: Mapping[str, Path]) -> None:
    """Check that a name has a module and a function, without importing the module.

    Raises:
        ConfigError: It has not, or there are weights.
    """
    module, function = _parts(name)
    if weights:
        raise ConfigError(f"{name} takes no --weights; its function loads its own.")
    if not function.isidentifier():
        raise ConfigError(f"{name}: {function!r} is not the name of a function.")
    if _is_file(module) and not Path(module).is_file():
        raise ConfigError(f"{name}: there is no file {module}. Give python:FILE.py:FUNCTION.")


def load(name: str, device: str, weights: Mapping[str, Path]) -> FunctionGenerator:
    """Load the function of `python:MODULE:FUNCTION`; MODULE may also be the path of a file.

    Modules are found as Python finds them, and in the current folder.

    Raises:
        ConfigError: The module can't be imported, or has no such function.
    """
    del device, weights
    place, function_name = _parts(name)
    module = _imported(name, place)
    function = getattr(module, function_name, None)
    if not callable(function):
        raise ConfigError(f"{name}: {place} has no function {function_name!r}.")
    _check_signature(name, function)
    source = Path(str(module.__file__)) if getattr(module, "__file__", None) else None
    spec = GeneratorSpec(
        name=name,
        display_name=f"{module.__name__}.{function_name}",
        conditioning="text",
        stages=(),
        precision=UNKNOWN_PRECISION,
        size_px=None,
        training_data=(),
        weights="unknown: a function's own",
        weights_sha256=f"source {hashlib.sha256(source.read_bytes()).hexdigest()}"
        if source
        else "unknown",
    )
    return FunctionGenerator(spec, function)


def _parts(name: str) -> tuple[str, str]:
    module, colon, function = name.partition(":")[2].rpartition(":")
    if not (module and colon and function):
        raise ConfigError(f"{name}: expected python:MODULE:FUNCTION or python:FILE.py:FUNCTION.")
    return module, function


def _is_file(module: str) -> bool:
    return module.endswith(".py")


def _imported(name: str, place: str) -> ModuleType:
    folder = str(Path.cwd())
    if folder not in sys.path and "" not in sys.path:
        sys.path.append(folder)
    try:
        return _from_file(Path(place)) if _is_file(place) else importlib.import_module(place)
    except Exception as error:  # a foreign module may raise anything on import
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ConfigError(
            f"{name}: {place} can't be imported ({reason.rstrip('.')}). Repair it, or run the "
            "command where Python finds it."
        ) from error


def _from_file(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None, "a path that ends in .py has a loader"
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault(path.stem, module)
    spec.loader.exec_module(module)
    return module


def _check_signature(name: str, function: Function) -> None:
    try:
        inspect.signature(function).bind([], [])
    except TypeError as error:
        raise ConfigError(
            f"{name} can't be called with (prompts, seeds) ({error}). It must take two lists."
        ) from error
    except ValueError:  # no signature, as of a function in C
        return
