"""DINOv2 ViT-L/14 features (Oquab et al. 2023), the network of FD-DINOv2 (Stein et al. 2023).

As in the metric's original code, images are squashed to 224 px with Pillow's bicubic filter and
normalised by ImageNet's mean and deviation; the feature is the class token after the last layer
norm.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32

from evalkit.core.downloads import sha256_of
from evalkit.core.errors import NetworkError, WeightsError
from evalkit.core.files import refuse_foreign_weights
from evalkit.features.base import PreparedExtractor, check_precision
from evalkit.features.clip import inference
from evalkit.features.clip_preprocessing import SquashAndScale
from evalkit.features.hub_weights import (
    DINOV2_FILE,
    DINOV2_REPOSITORY,
    cached_file,
    missing_dinov2,
    require_hub,
)

_SIZE_PX = 224
_MEAN = (0.485, 0.456, 0.406)
_STD = (0.229, 0.224, 0.225)


class Dinov2Extractor(PreparedExtractor):
    """The class token of a DINOv2 network.

    Args:
        model: A transformers `Dinov2Model`.
        weights_sha256: Hash of its weights file.
        device: Device of the network.
        precision: `float32` or `bf16`.
    """

    name = "dinov2"

    def __init__(
        self,
        model: torch.nn.Module,
        *,
        weights_sha256: str,
        device: str = "cpu",
        precision: str = "float32",
    ) -> None:
        check_precision(precision)
        network: Any = model  # transformers' attributes are not typed
        self._model = network.to(device).eval().requires_grad_(False)
        self._device = torch.device(device)
        self.preparer = SquashAndScale(_SIZE_PX, _MEAN, _STD)
        self._identity = {
            "extractor": "dinov2-vit-l-14",
            "weights_sha256": weights_sha256,
            "resize": f"squash bicubic {_SIZE_PX}",
            "precision": precision,
        }
        self.layers: Mapping[str, int] = {"class-token": int(self._model.config.hidden_size)}

    @property
    def identity(self) -> Mapping[str, Any]:
        """Network, weights, resizing and precision."""
        return self._identity

    def encode(self, prepared: np.ndarray) -> dict[str, Float32[np.ndarray, "n d"]]:
        """Compute the class tokens of a batch of prepared images."""
        batch = torch.from_numpy(prepared).permute(0, 3, 1, 2).contiguous().to(self._device)
        with inference(self._device, self._identity["precision"]):
            tokens = self._model(pixel_values=batch).last_hidden_state[:, 0]
        return {"class-token": tokens.float().cpu().numpy()}


def load_dinov2(*, device: str = "cpu", precision: str = "float32") -> Dinov2Extractor:
    """Load DINOv2 ViT-L/14 with its released weights.

    Raises:
        MissingWeightsError: They are neither in the hub's cache nor reachable.
        WeightsError: The file holds another network.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file
    from transformers import Dinov2Config, Dinov2Model

    path = _weights_path()
    refuse_foreign_weights(path)
    config = Dinov2Config(
        hidden_size=1024,
        num_hidden_layers=24,
        num_attention_heads=16,
        image_size=518,
        patch_size=14,
    )
    model = Dinov2Model(config)
    try:
        model.load_state_dict(load_file(path))
    except (RuntimeError, SafetensorError, OSError) as error:
        reason = str(error).strip().splitlines()[0][:160]
        raise WeightsError(f"{path}: not weights of {DINOV2_REPOSITORY} ({reason}).") from error
    return Dinov2Extractor(
        model, weights_sha256=sha256_of(path), device=device, precision=precision
    )


def _weights_path() -> Path:
    cached = cached_file(DINOV2_REPOSITORY, [DINOV2_FILE])
    if cached is not None:
        return cached
    try:
        require_hub()
        from huggingface_hub import hf_hub_download

        return Path(hf_hub_download(DINOV2_REPOSITORY, DINOV2_FILE))
    except (NetworkError, OSError) as error:
        raise missing_dinov2(error) from error
