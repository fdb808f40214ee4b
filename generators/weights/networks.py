"""Networks by name, and the one path that loads their weights.

Every generator loads its networks by `load_released`, and so do the tests that compare a network
with its authors' code. A configuration is flat, as the released code's constructors and the
`model` table of a recipe have it; names in a state dict are those of the released code.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from evalkit.core.errors import UnknownNameError, WeightsError
from evalkit.core.registry import load
from generators.errors import ArchitectureError
from generators.weights.state_dicts import check_state_dict

NetworkT = TypeVar("NetworkT", bound=nn.Module)


@dataclass(frozen=True)
class NetworkRow:
    """One network that can be built by name."""

    build: str
    """`module:function`; the function takes a flat configuration and returns the network."""
    rename: str = ""
    """`module:function` that renames the keys of older files; empty: names never changed."""
    draws: bool = False
    """Whether loading draws initial weights, which the seeds of Imagen's recipes count."""


NETWORKS: Mapping[str, NetworkRow] = {
    "glide-base": NetworkRow("generators.glide.model:Text2ImUNet.from_flat"),
    "glide-upsampler": NetworkRow("generators.glide.model:SuperResText2ImUNet.from_flat"),
    "glide-base-inpaint": NetworkRow("generators.glide.model:InpaintText2ImUNet.from_flat"),
    "glide-upsampler-inpaint": NetworkRow(
        "generators.glide.model:SuperResInpaintText2ImUNet.from_flat"
    ),
    "adm-unet": NetworkRow("generators.nn.unet:UNet.from_flat"),
    "adm-upsampler": NetworkRow("generators.ddpm.adm:SuperResUNet.from_flat"),
    "adm-classifier": NetworkRow("generators.ddpm.adm:NoisyClassifier.from_flat"),
    "ddpm-unet": NetworkRow(
        "generators.ddpm.model:DDPMUNet.from_flat", rename="generators.ddpm.model:current_names"
    ),
    "dalle-dvae-encoder": NetworkRow("generators.dalle.dvae:DVAEEncoder.from_flat"),
    "dalle-dvae-decoder": NetworkRow("generators.dalle.dvae:DVAEDecoder.from_flat"),
    "clip": NetworkRow("generators.clip.model:Clip.from_flat"),
    "noised-clip": NetworkRow("generators.clip.tiny:build_noised"),
    "dalle-dvae": NetworkRow("generators.dalle.dvae:DVAE.from_flat"),
    "dalle-dvae-decoding": NetworkRow("generators.dalle.dvae:DVAE.from_flat"),
    "dalle-transformer": NetworkRow("generators.dalle.model:DalleTransformer.from_flat"),
    "ddpm": NetworkRow("generators.ddpm.tiny:build_network"),
    "noisy-classifier": NetworkRow("generators.ddpm.tiny:build_classifier"),
    "unclip-prior": NetworkRow("generators.unclip.prior:DiffusionPrior.from_flat"),
    "unclip-prior-ar": NetworkRow("generators.unclip.autoregressive:AutoregressivePrior.from_flat"),
    "unclip-decoder": NetworkRow("generators.unclip.decoder:UnclipDecoder.from_flat"),
    "unclip-upsampler": NetworkRow("generators.glide.model:SuperResText2ImUNet.from_flat"),
    "imagen-t5": NetworkRow("generators.imagen.text:build_encoder", draws=True),
    "imagen-t5-taught": NetworkRow("generators.imagen.text:build_encoder", draws=True),
    "imagen-base": NetworkRow("generators.imagen.model:ImagenBase.from_flat"),
    "imagen-upsampler": NetworkRow("generators.imagen.model:ImagenUpsampler.from_flat"),
}
"""Released networks under the names of their parity tests, and those of our recipes."""

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
"""Settings whose value is a string; any other string in a configuration is a remark."""


def load_released(
    name: str, state_dict: Mapping[str, Tensor], config: Mapping[str, Any], *, source: str = ""
) -> nn.Module:
    """Build a network and load its weights.

    Args:
        name: One of `NETWORKS`.
        state_dict: Tensors under the released names, of any floating-point type; kept as float32.
        config: The flat configuration.
        source: What errors call the weights, such as a file's name; empty: the network's name.

    Returns:
        The network in evaluation mode, float32.

    Raises:
        UnknownNameError: No network has the name.
        ArchitectureError: A setting is unknown, missing or contradictory.
        WeightsError: Keys are missing, left over or of another shape; the message lists them.
    """
    row = _row(name)
    with torch.device("cpu" if row.draws else "meta"):
        network = build_network(name, config)
    if row.rename:
        state_dict = load(row.rename)(state_dict)
    check_state_dict(network.state_dict(), state_dict, source or name)
    network.load_state_dict({k: _float32(v) for k, v in state_dict.items()}, assign=True)
    return network.requires_grad_().eval()


def build_network(name: str, config: Mapping[str, Any]) -> nn.Module:
    """Build a network with new weights, on torch's default device.

    Raises:
        UnknownNameError: No network has the name.
        ArchitectureError: A setting is unknown, missing or contradictory.
    """
    network: nn.Module = pkgutil.resolve_name(_row(name).build)(architecture_settings(config))
    return network


def same_network(kind: str, other: str) -> bool:
    """Return whether two kinds of training train the same network."""
    if kind == other:
        return True
    return {kind, other} <= NETWORKS.keys() and NETWORKS[kind].build == NETWORKS[other].build


def checked(kind: type[NetworkT], source: str, network: nn.Module) -> NetworkT:
    """Return a network whose class must be `kind`.

    Raises:
        WeightsError: The network is of another class.
    """
    if not isinstance(network, kind):
        raise WeightsError(
            f"The weights of {source} are of a {type(network).__name__}, expected a "
            f"{kind.__name__}."
        )
    return network


def architecture_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that shape the network.

    Raises:
        ArchitectureError: A setting has a value that is not implemented.
    """
    for name, value in ONLY_VALUES.items():
        if config.get(name, value) != value:
            raise ArchitectureError(
                f"{name} = {config[name]!r} is not implemented, only {value!r}."
            )
    return {
        name: value
        for name, value in config.items()
        if name not in WITHOUT_EFFECT
        and name not in ONLY_VALUES
        and (name in TEXT_VALUED or not isinstance(value, str))
    }


def _row(name: str) -> NetworkRow:
    if name not in NETWORKS:
        raise UnknownNameError(f"Unknown network {name!r}; known: {', '.join(NETWORKS)}.")
    return NETWORKS[name]


def _float32(tensor: Tensor) -> Tensor:
    return tensor.detach().to(torch.float32).contiguous()
