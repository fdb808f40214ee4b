"""Read the tensors of pickled modules without running any code that came with them.

OpenAI published the discrete VAE as `encoder.pkl` and `decoder.pkl`: whole modules, pickled.
Unpickling calls what the file names, so every name is looked up in a short list of inert
stand-ins: an empty class for each module, a description of each tensor. A file that names anything
else is refused before any of it is used.

Both of torch's formats are read: the zip (since 1.6) and the sequence of pickles (before).
"""

from __future__ import annotations

import io
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from evalkit.core.errors import MissingWeightsError, WeightsError
from generators.errors import UnsafeWeightsError

MODULES = frozenset(
    {
        "dall_e.encoder.Encoder",
        "dall_e.encoder.EncoderBlock",
        "dall_e.decoder.Decoder",
        "dall_e.decoder.DecoderBlock",
        "dall_e.utils.Conv2d",
        "torch.nn.modules.activation.ReLU",
        "torch.nn.modules.container.Sequential",
        "torch.nn.modules.linear.Identity",
        "torch.nn.modules.pooling.MaxPool2d",
        "torch.nn.modules.upsampling.Upsample",
    }
)
"""Classes whose instances become empty stand-ins."""
DTYPES = {
    "torch.FloatStorage": torch.float32,
    "torch.HalfStorage": torch.float16,
    "torch.BFloat16Storage": torch.bfloat16,
    "torch.DoubleStorage": torch.float64,
    "torch.LongStorage": torch.int64,
    "torch.IntStorage": torch.int32,
    "torch.ByteStorage": torch.uint8,
    "torch.BoolStorage": torch.bool,
}
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
MOST_DEPTH = 64
"""Maximum depth of nested modules."""


@dataclass(frozen=True)
class _Storage:
    key: str
    dtype: torch.dtype


@dataclass(frozen=True)
class _Tensor:
    storage: _Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]

    def read(self, contents: bytearray) -> Tensor:
        flat = torch.frombuffer(contents, dtype=self.storage.dtype)
        return torch.as_strided(flat, self.size, self.stride, self.offset).clone()


class _Reader(pickle.Unpickler):
    """An unpickler that knows a few names and builds only descriptions of tensors."""

    def __init__(self, file: io.BufferedIOBase, path: Path) -> None:
        super().__init__(file, encoding="utf-8")
        self.path = path
        self.part = type("Part", (), {})
        """One class per file, so that nothing a file does to it outlives the read."""
        self.names: Mapping[str, Any] = {
            "collections.OrderedDict": OrderedDict,
            "builtins.set": set,
            "__builtin__.set": set,
            "torch._utils._rebuild_tensor_v2": self._tensor,
            "torch._utils._rebuild_parameter": self._parameter,
            "torch.device": self._device,
            **dict.fromkeys(MODULES, self.part),
            **DTYPES,
        }

    def find_class(self, module: str, name: str) -> Any:
        full = f"{module}.{name}"
        if full not in self.names:
            raise UnsafeWeightsError(
                f"{self.path} is a pickle that names {full}. Only the tensors and modules of the "
                "released discrete VAE are read, so it is refused."
            )
        return self.names[full]

    def persistent_load(self, pid: Any) -> Any:
        kind, first, *rest = pid
        if kind == "module":  # the old format stores a class with its source, which is ignored
            return first
        if kind != "storage" or not isinstance(first, torch.dtype):
            raise WeightsError(f"{self.path} stores something other than tensors: {kind!r}.")
        return _Storage(str(rest[0]), first)

    def _tensor(
        self, storage: _Storage, offset: int, size: Any, stride: Any, *rest: Any
    ) -> _Tensor:
        del rest  # whether gradients are wanted, and hooks
        if not isinstance(storage, _Storage):
            raise WeightsError(f"{self.path} holds a tensor without a storage.")
        return _Tensor(storage, int(offset), tuple(map(int, size)), tuple(map(int, stride)))

    def _parameter(self, data: _Tensor, *rest: Any) -> _Tensor:
        del rest
        return data

    def _device(self, *arguments: Any) -> None:
        del arguments


def read_pickled_module(path: Path) -> dict[str, Tensor]:
    """Read the state dict of a pickled module of the released discrete VAE.

    Args:
        path: `encoder.pkl`, `decoder.pkl`, or a module of the same classes.

    Returns:
        Tensors under the names that `state_dict()` would give them, on the CPU.

    Raises:
        MissingWeightsError: The file does not exist.
        UnsafeWeightsError: The file names anything but those classes.
        WeightsError: The file is damaged, or holds no module.
    """
    if not path.is_file():
        raise MissingWeightsError(f"No weights file at {path}.")
    try:
        root, storages = (_read_zip if zipfile.is_zipfile(path) else _read_legacy)(path)
        found = dict(_tensors(root))
        return {name: tensor.read(storages(tensor.storage)) for name, tensor in found.items()}
    except WeightsError:
        raise
    except Exception as error:  # a broken pickle can raise anything
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise WeightsError(
            f"{path} is damaged or not a pickled module: {reason.rstrip('.')}."
        ) from None


Contents = Callable[[_Storage], bytearray]


def _read_zip(path: Path) -> tuple[Any, Contents]:
    with zipfile.ZipFile(path) as archive:
        entries = {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}
    if entries.get("byteorder", b"little") != b"little":
        raise WeightsError(f"{path} was written on a big-endian machine, which is not supported.")
    root = _Reader(io.BytesIO(entries["data.pkl"]), path).load()
    return root, lambda storage: bytearray(entries[f"data/{storage.key}"])


def _read_legacy(path: Path) -> tuple[Any, Contents]:
    """Read five pickles (magic number, protocol, system, module, keys), then the storages."""
    with path.open("rb") as file:
        magic, _, system = (_Reader(file, path).load() for _ in range(3))
        if magic != LEGACY_MAGIC or not system["little_endian"]:
            raise WeightsError(f"{path} is not a torch file, or is one of a big-endian machine.")
        reader = _Reader(file, path)
        root = reader.load()
        keys = [str(key) for key in _Reader(file, path).load()]
        dtypes = {tensor.storage.key: tensor.storage.dtype for _, tensor in _tensors(root)}
        contents = {}
        for key in keys:
            count = int.from_bytes(file.read(8), "little")
            contents[key] = bytearray(file.read(count * dtypes[key].itemsize))
    return root, lambda storage: contents[storage.key]


def _tensors(part: Any, prefix: str = "", depth: int = 0) -> Iterator[tuple[str, _Tensor]]:
    """Yield parameters and buffers of a module and its children, as `state_dict` names them."""
    held = vars(part)
    if depth > MOST_DEPTH or not isinstance(held.get("_modules"), dict):
        raise ValueError("no module, or modules nested too deeply")
    for kind in ("_parameters", "_buffers"):
        for name, tensor in held.get(kind, {}).items():
            if isinstance(tensor, _Tensor):
                yield f"{prefix}{name}", tensor
    for name, child in held["_modules"].items():
        if child is not None:
            yield from _tensors(child, f"{prefix}{name}.", depth + 1)
