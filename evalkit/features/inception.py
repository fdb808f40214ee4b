"""The Inception-2015 network, the only one whose Fréchet distance is an "FID" (Heusel et al. 2017).

The blocks are in `evalkit.features.inception_blocks`. Each batch-norm is folded into its
convolution and the memory layout is channels last: 1.5 times faster on a CPU, with a change of
about 1e-6 in the features. A shallow layer returns early.

`spatial` is what sFID uses (Nash et al. 2021; ADM's evaluator): the first 7 channels of the 1x1
branch of `mixed_6`, 17 x 17, flattened to 2,023 dimensions.
"""

from __future__ import annotations

import copy
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from evalkit.catalog import INCEPTION_SHA256_PREFIX, OTHER_WEIGHTS
from evalkit.core.arrays import DAMAGED_PICKLE
from evalkit.core.downloads import sha256_of
from evalkit.core.errors import ConfigError, WeightsError
from evalkit.core.progress import ProgressFactory, silent
from evalkit.features.base import PreparedExtractor, check_precision
from evalkit.features.inception_blocks import (
    BasicConv2d,
    InceptionA,
    InceptionB,
    InceptionC,
    InceptionD,
    InceptionE,
)
from evalkit.features.inception_weights import (
    WEIGHTS_FILE,
    find_inception_weights,
)
from evalkit.features.resize import check_mode, resize_for_inception
from generators.numerics import full_float32

LAYER_DIMS = {
    "64": 64,
    "192": 192,
    "spatial": 2023,
    "768": 768,
    "2048": 2048,
    "logits_unbiased": 1008,
    "logits": 1008,
}
"""Dimensions by layer, from shallow to deep."""


class InceptionNetwork(nn.Module):
    """Inception v3 as TensorFlow released it in 2015, with 1,008 logits."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = BasicConv2d(3, 32, kernel_size=3, stride=2)
        self.Conv2d_2a_3x3 = BasicConv2d(32, 32, kernel_size=3)
        self.Conv2d_2b_3x3 = BasicConv2d(32, 64, kernel_size=3, padding=1)
        self.Conv2d_3b_1x1 = BasicConv2d(64, 80, kernel_size=1)
        self.Conv2d_4a_3x3 = BasicConv2d(80, 192, kernel_size=3)
        self.Mixed_5b = InceptionA(192, pool_features=32)
        self.Mixed_5c = InceptionA(256, pool_features=64)
        self.Mixed_5d = InceptionA(288, pool_features=64)
        self.Mixed_6a = InceptionB(288)
        self.Mixed_6b = InceptionC(768, channels_7x7=128)
        self.Mixed_6c = InceptionC(768, channels_7x7=160)
        self.Mixed_6d = InceptionC(768, channels_7x7=160)
        self.Mixed_6e = InceptionC(768, channels_7x7=192)
        self.Mixed_7a = InceptionD(768)
        self.Mixed_7b = InceptionE(1280, "average")
        self.Mixed_7c = InceptionE(2048, "maximum")
        self.fc = nn.Linear(2048, 1008)

    def forward(self, x: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
        """Compute the features of the requested layers, and stop at the deepest of them."""
        found: dict[str, Tensor] = {}
        last = max(layers, key=list(LAYER_DIMS).index)

        def reached(layer: str, values: Tensor) -> bool:
            if layer in layers:
                found[layer] = values.float()
            return layer == last

        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))  # (B, 64, 147, 147)
        x = _max_pool(x)  # (B, 64, 73, 73)
        if reached("64", _mean(x)):
            return found
        x = _max_pool(self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(x)))  # (B, 192, 35, 35)
        if reached("192", _mean(x)):
            return found
        x = self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(x)))  # (B, 288, 35, 35)
        x = self.Mixed_6c(self.Mixed_6b(self.Mixed_6a(x)))  # (B, 768, 17, 17)
        if "spatial" in layers:
            branch = self.Mixed_6d.branch1x1(x)[:, :7]  # (B, 7, 17, 17)
            if reached("spatial", branch.flatten(1)):
                return found
        x = self.Mixed_6e(self.Mixed_6d(x))  # (B, 768, 17, 17)
        if reached("768", _mean(x)):
            return found
        x = self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(x)))  # (B, 2048, 8, 8)
        pooled = _mean(x)
        if reached("2048", pooled):
            return found
        unbiased = pooled @ self.fc.weight.float().T  # (B, 1008)
        if reached("logits_unbiased", unbiased):
            return found
        reached("logits", unbiased + self.fc.bias.float())
        return found


def _max_pool(x: Tensor) -> Tensor:
    return nn.functional.max_pool2d(x, kernel_size=3, stride=2)


def _mean(x: Tensor) -> Tensor:
    return x.float().mean(dim=(2, 3))


def fold_batch_norms(network: nn.Module) -> None:
    """Multiply each batch-norm into the convolution before it; the network must be in eval mode."""
    for module in network.modules():
        if isinstance(module, BasicConv2d) and isinstance(module.bn, nn.BatchNorm2d):
            module.conv = fuse_conv_bn_eval(module.conv, module.bn)
            module.bn = nn.Identity()


class InceptionExtractor(PreparedExtractor):
    """Features of the Inception-2015 network.

    Args:
        layers: Which layers to return, the main one first.
        weights: A weights file; by default from the cache, else downloaded.
        resize: How an image is resized to 299 x 299, see `evalkit.features.resize`.
        device: Device of the network.
        precision: `float32`, or `bf16`, which is faster and changes features by 1 to 2 %.
        compiled: Compile the network: half a minute once, then about 5 % faster on a CPU.

    Raises:
        ConfigError: An unknown layer, mode or precision, or no compiler.
        MissingWeightsError: There is no weights file, and no network to download it.
        WeightsError: The file has other content.
    """

    name = "inception"

    def __init__(
        self,
        layers: Sequence[str] = ("2048",),
        *,
        weights: Path | str | None = None,
        resize: str = "tf1",
        device: str = "cpu",
        precision: str = "float32",
        compiled: bool = False,
        progress: ProgressFactory = silent,
    ) -> None:
        check_layers(layers)
        check_mode(resize)
        check_precision(precision)
        path = find_inception_weights(weights, progress=progress)
        self.layers: Mapping[str, int] = {layer: LAYER_DIMS[layer] for layer in layers}
        self.weights_sha256 = sha256_of(path)
        self.resize = resize
        self.preparer = partial(resize_for_inception, mode=resize)
        self.precision = precision
        self.device = torch.device(device)
        self._dtype = torch.float32 if precision == "float32" else torch.bfloat16
        network = load_network(path)
        fold_batch_norms(network)
        network.to(device=self.device, dtype=self._dtype).to(memory_format=torch.channels_last)
        self._compiled = compiled
        self._network = _compile(network, self.device) if compiled else network
        self._batch_size = 0

    def with_resize(self, mode: str) -> InceptionExtractor:
        """Return an extractor of the same network that resizes images in another way.

        Raises:
            ConfigError: An unknown mode.
        """
        check_mode(mode)
        other = copy.copy(self)
        other.resize = mode
        other.preparer = partial(resize_for_inception, mode=mode)
        return other

    @property
    def identity(self) -> Mapping[str, Any]:
        """Network, weights, resizing and precision; a note if the weights are not the 2015 ones."""
        identity: dict[str, Any] = {
            "extractor": "inception-2015",
            "weights_sha256": self.weights_sha256,
            "resize": self.resize,
            "precision": self.precision,
        }
        if not self.weights_sha256.startswith(INCEPTION_SHA256_PREFIX):
            identity["weights_note"] = OTHER_WEIGHTS
        if self._compiled:
            identity["compiled"] = True
        return identity

    @property
    def metric_label(self) -> str:
        """FID, since this is the Inception-2015 network; other weights get a badge."""
        return "FID"

    def encode(self, prepared: np.ndarray) -> dict[str, Float32[np.ndarray, "n d"]]:
        """Compute the features of a batch of prepared images, by layer."""
        count = len(prepared)
        if self._compiled:
            prepared = self._padded(prepared)
        batch = torch.from_numpy(prepared).permute(0, 3, 1, 2)  # (B, 3, 299, 299), channels last
        batch = batch.to(self.device, self._dtype)
        with torch.inference_mode(), full_float32():
            found = self._network(batch, tuple(self.layers))
        return {layer: found[layer][:count].cpu().numpy() for layer in self.layers}

    def _padded(self, prepared: np.ndarray) -> np.ndarray:
        """Pad the batch to the size of the first, since another size would be compiled again."""
        self._batch_size = max(self._batch_size, len(prepared))
        missing = self._batch_size - len(prepared)
        filling = np.zeros((missing, *prepared.shape[1:]), prepared.dtype)
        return np.concatenate([prepared, filling]) if missing else prepared


def _compile(network: nn.Module, device: torch.device) -> Callable[..., dict[str, Tensor]]:
    compiler = os.environ.get("CXX", "g++")
    if device.type == "cpu" and shutil.which(compiler) is None:
        raise ConfigError(
            f"--compile needs a C++ compiler, but {compiler} is not installed. Install one, or "
            "drop the option."
        )
    compiled: Callable[..., dict[str, Tensor]] = torch.compile(
        network, options={"freezing": True}, dynamic=False
    )
    return compiled


def check_layers(layers: Sequence[str]) -> None:
    """Check that all layers are known.

    Raises:
        ConfigError: Lists the layers.
    """
    wrong = [layer for layer in layers if layer not in LAYER_DIMS]
    if wrong or not layers:
        raise ConfigError(
            f"Inception has no layer {wrong[0] if wrong else '(none given)'!r}; choose from "
            + f"{', '.join(LAYER_DIMS)}."
        )


def load_network(path: Path) -> InceptionNetwork:
    """Load the network from a file, in eval mode and without gradients.

    Only tensors are read: safetensors, or a pickle restricted to tensors.

    Raises:
        WeightsError: Not such a file, or keys or shapes of another network.
    """
    # Built on the meta device: initialising values that are overwritten at once takes seconds.
    with torch.device("meta"):
        network = InceptionNetwork().eval().requires_grad_(False)
    try:
        network.load_state_dict(_read_state(path), assign=True)
    except (RuntimeError, AttributeError, TypeError) as error:
        lines = [line.strip() for line in str(error).strip().splitlines()]
        reason = (lines[1:2] or lines)[0][:160]
        raise WeightsError(
            f"{path}: not Inception-2015 weights ({reason}); "
            f"expected a state dict like that of {WEIGHTS_FILE}."
        ) from error
    return network


def _read_state(path: Path) -> Any:
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(path)
        except (SafetensorError, OSError) as error:
            raise WeightsError(
                f"{path}: not a safetensors file ({error}). Give another file."
            ) from error
    import pickle
    import warnings

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickle protocols other than torch.save's
            return torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, *DAMAGED_PICKLE) as error:
        reason = str(error).strip().splitlines()
        raise WeightsError(
            f"{path}: can't be read as tensors ({(reason or ['empty'])[0][:120]}); expected a "
            "state dict saved by torch or safetensors."
        ) from error
