"""Networks from released weights: an architecture's name, a state dict and its configuration.

The configuration is what the released code's constructors take, flat, with attention given as
factors of downsampling. State-dict names are the released code's own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from evalkit.core.errors import UnknownNameError
from generators.clip.model import Clip, ClipConfig
from generators.dalle.dvae import DVAEConfig, DVAEDecoder, DVAEEncoder
from generators.ddpm.adm import NoisyClassifier, SuperResUNet
from generators.ddpm.model import DDPMConfig, DDPMUNet, current_names
from generators.errors import ArchitectureError
from generators.glide.model import (
    GlideConfig,
    InpaintText2ImUNet,
    SuperResInpaintText2ImUNet,
    SuperResText2ImUNet,
    Text2ImUNet,
)
from generators.loading import check_state_dict
from generators.nn.settings import config_from_flat
from generators.nn.unet import UNet, UNetConfig

WITHOUT_EFFECT = frozenset(
    {
        "use_checkpoint",
        "use_fp16",
        "cache_text_emb",
        "device",
        "requires_grad",
        "use_mixed_precision",
    }
)
"""Settings of the released code that save memory or time and change no number."""
ONLY_VALUES: Mapping[str, Any] = {"dims": 2, "xf_ar": 0, "share_unemb": False}
"""Settings of which no released network uses another value."""
TEXT_VALUED = frozenset({"pool"})
"""Settings whose value is a text; other texts in a configuration describe how it was used."""


def load_released(
    name: str, state_dict: Mapping[str, Tensor], config: Mapping[str, Any]
) -> nn.Module:
    """Builds a network and gives it the weights.

    Args:
        name: One of `NETWORKS`.
        state_dict: Tensors under the released names, of any floating type; kept as float32.
        config: The constructor's settings.

    Returns:
        The network in evaluation mode, float32.

    Raises:
        UnknownNameError: No such network.
        ArchitectureError: A setting is unknown, missing or contradictory.
        WeightsError: Keys are missing, left over or of another shape; each is listed.
    """
    if name not in NETWORKS:
        raise UnknownNameError(f"unknown network {name!r}; known: {', '.join(NETWORKS)}")
    settings = architecture_settings(config)
    if name == "ddpm-unet":
        state_dict = current_names(state_dict)
    with torch.device("meta"):
        network = NETWORKS[name](settings)
    check_state_dict(network.state_dict(), state_dict, name)
    weights = {key: tensor.detach().to(torch.float32) for key, tensor in state_dict.items()}
    network.load_state_dict(weights, assign=True)
    return network.requires_grad_().eval()


def architecture_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that shape the network.

    Raises:
        ArchitectureError: A setting has a value that is not implemented.
    """
    for name, value in ONLY_VALUES.items():
        if config.get(name, value) != value:
            raise ArchitectureError(f"{name} = {config[name]!r} is not implemented, only {value!r}")
    return {
        name: value
        for name, value in config.items()
        if name not in WITHOUT_EFFECT
        and name not in ONLY_VALUES
        and (name in TEXT_VALUED or not isinstance(value, str))
    }


def _glide(network: type[Text2ImUNet]) -> Callable[[dict[str, Any]], nn.Module]:
    return lambda settings: network(GlideConfig.from_flat(settings))


def _adm(network: type[UNet]) -> Callable[[dict[str, Any]], nn.Module]:
    return lambda settings: network(UNetConfig.from_flat(settings))


def _ddpm(settings: dict[str, Any]) -> nn.Module:
    return DDPMUNet(DDPMConfig.from_flat(settings))


def _classifier(settings: dict[str, Any]) -> nn.Module:
    pool = settings.pop("pool", "adaptive")
    return NoisyClassifier(UNetConfig.from_flat(settings), pool)


NETWORKS: Mapping[str, Callable[[dict[str, Any]], nn.Module]] = {
    "glide-base": _glide(Text2ImUNet),
    "glide-upsampler": _glide(SuperResText2ImUNet),
    "glide-base-inpaint": _glide(InpaintText2ImUNet),
    "glide-upsampler-inpaint": _glide(SuperResInpaintText2ImUNet),
    "adm-unet": _adm(UNet),
    "adm-upsampler": _adm(SuperResUNet),
    "adm-classifier": _classifier,
    "ddpm-unet": _ddpm,
    "dalle-dvae-encoder": lambda settings: DVAEEncoder(DVAEConfig.from_flat(settings)),
    "dalle-dvae-decoder": lambda settings: DVAEDecoder(DVAEConfig.from_flat(settings)),
    "clip": lambda settings: Clip(config_from_flat(ClipConfig, settings, "CLIP")),
}
