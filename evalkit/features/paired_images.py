"""What compares two images directly, so that no feature of a single image is stored.

Both are extractors without layers: they give metrics of pairs an identity for the fingerprint, and
one place where weights are loaded and missing ones are reported.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64, UInt8

from evalkit.core.downloads import sha256_of
from evalkit.core.errors import WeightsError
from evalkit.core.progress import ProgressFactory, silent
from evalkit.features.base import PreparedExtractor
from evalkit.features.lpips_weights import find_alexnet
from generators.numerics import full_float32
from generators.weights.state_dicts import load_state_dict

LPIPS_MIN_SIDE_PX = 31
"""The smallest side for which AlexNet's third convolution has an input."""


class _WithoutFeatures(PreparedExtractor):
    layers: Mapping[str, int] = {}

    @property
    def dim(self) -> int:
        """No feature of a single image."""
        return 0


class PixelPairs(_WithoutFeatures):
    """The pixels themselves, for PSNR and SSIM."""

    name = "pixels"

    @property
    def identity(self) -> Mapping[str, Any]:
        """Only its name: nothing else could change a pixel."""
        return {"extractor": "pixels"}

    @property
    def metric_label(self) -> str:
        """Not a distance on features."""
        return "pixels"


class LpipsPairs(_WithoutFeatures):
    """LPIPS with AlexNet (Zhang et al. 2018, version 0.1), as torchmetrics computes it.

    Args:
        weights: State dict of torchvision's AlexNet; None: the published one.
        device: Device of the network.
        progress: Shows a download.

    Raises:
        MissingWeightsError: The published one is neither cached nor reachable.
        WeightsError: The file holds another network, or more than tensors.
    """

    name = "lpips"

    def __init__(
        self,
        weights: Path | None = None,
        *,
        device: str = "cpu",
        progress: ProgressFactory = silent,
    ) -> None:
        path = find_alexnet(weights, progress=progress)
        self._network = _network(path).to(device)
        self._device = torch.device(device)
        self._sha256 = sha256_of(path)

    @property
    def identity(self) -> Mapping[str, Any]:
        """Backbone, its weights, and the version of the linear layers."""
        return {"extractor": "lpips-alex-0.1", "weights_sha256": self._sha256}

    @property
    def metric_label(self) -> str:
        """The name with the backbone."""
        return "LPIPS (alex)"

    @torch.inference_mode()
    def distances(
        self,
        first: UInt8[np.ndarray, "n height width 3"],
        second: UInt8[np.ndarray, "n height width 3"],
    ) -> Float64[np.ndarray, " n"]:
        """Compute the distance of each pair; 0 for equal images, lower is more alike."""
        both = [
            torch.from_numpy(images).permute(0, 3, 1, 2).float().to(self._device) / 127.5 - 1
            for images in (first, second)
        ]
        with full_float32():
            found: np.ndarray = self._network(*both).flatten().double().cpu().numpy()
        return found


def _network(path: Path) -> torch.nn.Module:
    """Build torchmetrics' network, whose linear layers are in its wheel, on AlexNet's weights.

    Torchmetrics' public function downloads the backbone by itself, without a word or a hash.
    """
    from torchmetrics.functional.image.lpips import _NoTrainLpips

    with torch.random.fork_rng(devices=[]):  # the backbone starts with random weights
        network = _NoTrainLpips(net="alex", pnet_rand=True)
    stored = load_state_dict(path)
    state = {}
    for key, value in network.net.state_dict().items():
        name = f"features.{key.partition('.')[2]}"  # slice2.3.weight is features.3.weight
        if name not in stored or stored[name].shape != value.shape:
            found = tuple(stored[name].shape) if name in stored else "nothing"
            raise WeightsError(
                f"{path}: not weights of torchvision's AlexNet: expected {name} of shape "
                f"{tuple(value.shape)}, found {found}."
            )
        state[key] = stored[name].float()
    network.net.load_state_dict(state)
    return network.eval().requires_grad_(False)
