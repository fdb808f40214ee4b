"""Configurations of the DDPM family with public weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from torch import nn

from generators.ddpm.model import DDPMConfig
from generators.diffusion.process import DiffusionProcess, Variance
from generators.diffusion.schedules import REFERENCE_STEPS, Schedule
from generators.nn.unet import UNetConfig
from generators.weights.networks import build_network

IMAGENET_CLASSES = 1000
CLASSIFIER = "adm-classifier"
"""The row of `generators.weights.networks.NETWORKS` of every preset's classifier."""


@dataclass(frozen=True, kw_only=True)
class DDPMPreset:
    """A network, its process, and how its authors sample from it."""

    network: DDPMConfig | UNetConfig
    """DDPM's own layout, or ADM's."""
    schedule: Schedule
    num_steps: int = 1000
    variance: Variance = "learned_range"
    rescale_timesteps: bool = False
    """The network's input is t * 1000 / T (improved-diffusion's default)."""
    respacing: str = "250"
    """Steps of ancestral sampling."""
    classifier: UNetConfig | None = None
    """Of the noisy classifier for guidance; its `out_channels` are the classes."""
    classifier_scale: float = 0.0
    """The authors' scale of classifier guidance."""
    display_name: str
    """What reports call it."""
    training_data: str
    """Name of the data set it was trained on."""

    @property
    def num_classes(self) -> int | None:
        """Number of classes; None: unconditional."""
        if self.network.num_classes is None and self.classifier is not None:
            return self.classifier.out_channels
        return self.network.num_classes

    def process(self) -> DiffusionProcess:
        """Return the process with all timesteps."""
        scale = REFERENCE_STEPS / self.num_steps if self.rescale_timesteps else 1.0
        return DiffusionProcess.from_schedule(
            self.schedule, self.num_steps, variance=self.variance, timestep_scale=scale
        )

    @property
    def architecture(self) -> str:
        """The network's row of `generators.weights.networks.NETWORKS`."""
        return "ddpm-unet" if isinstance(self.network, DDPMConfig) else "adm-unet"

    @property
    def classifier_settings(self) -> dict[str, Any] | None:
        """Flat settings of the network `CLASSIFIER`; None: the preset has no classifier."""
        return None if self.classifier is None else {**asdict(self.classifier), "pool": "attention"}

    @property
    def settings(self) -> dict[str, Any]:
        """Flat settings of the network."""
        return asdict(self.network)

    def build(self) -> nn.Module:
        """Build the network, with new weights."""
        return build_network(self.architecture, self.settings)

    def build_classifier(self) -> nn.Module | None:
        """Build the classifier, with new weights."""
        settings = self.classifier_settings
        return None if settings is None else build_network(CLASSIFIER, settings)


def _adm(image_size: int, channel_mult: tuple[float, ...], **changes: object) -> UNetConfig:
    """Configure ADM's U-Net: 256 channels, 2 blocks, attention at 32, 16 and 8 px."""
    config = UNetConfig(
        image_size=image_size,
        model_channels=256,
        out_channels=6,
        num_res_blocks=2,
        channel_mult=channel_mult,
        attention_downsamples=(image_size // 32, image_size // 16, image_size // 8),
        num_classes=IMAGENET_CLASSES,
        num_heads=4,
        num_head_channels=64,
        use_scale_shift_norm=True,
        resblock_updown=True,
    )
    return replace(config, **changes)  # type: ignore[arg-type]


def _adm_classifier(unet: UNetConfig, *, depth: int = 2) -> UNetConfig:
    """Configure the classifier of a U-Net: 128 channels, attention pooling (section 4.1)."""
    return replace(
        unet,
        model_channels=128,
        out_channels=IMAGENET_CLASSES,
        num_res_blocks=depth,
        num_classes=None,
        num_head_channels=64,
        dropout=0.0,
        use_new_attention_order=False,
    )


def _improved(image_size: int, channel_mult: tuple[float, ...], *, dropout: float) -> UNetConfig:
    """Configure Improved DDPM's U-Net: 128 channels, 3 blocks, attention at 16 and 8 px."""
    return UNetConfig(
        image_size=image_size,
        model_channels=128,
        out_channels=6,
        num_res_blocks=3,
        channel_mult=channel_mult,
        attention_downsamples=(image_size // 16, image_size // 8),
        dropout=dropout,
        num_heads=4,
        use_scale_shift_norm=True,
    )


CIFAR10 = DDPMPreset(
    network=DDPMConfig(
        image_size=32,
        model_channels=128,
        channel_mult=(1, 2, 2, 2),
        attention_levels=(1,),
        dropout=0.1,
    ),
    schedule="linear",
    variance="fixed_large",
    respacing="1000",
    display_name="DDPM (CIFAR-10)",
    training_data="cifar10",
)
"""35.7 M parameters (Ho et al. 2020, appendix B)."""

HIGH_RESOLUTION = DDPMPreset(
    network=DDPMConfig(
        image_size=256,
        model_channels=128,
        channel_mult=(1, 1, 2, 2, 4, 4),
        attention_levels=(4,),
    ),
    schedule="linear",
    variance="fixed_small",
    respacing="1000",
    display_name="DDPM (CelebA-HQ 256)",
    training_data="celeba-hq",
)
"""114 M parameters: LSUN and CelebA-HQ at 256 px (the same appendix)."""

_ADM64 = _adm(
    64,
    (1, 2, 3, 4),
    model_channels=192,
    num_res_blocks=3,
    dropout=0.1,
    use_new_attention_order=True,
)
_ADM128 = _adm(128, (1, 1, 2, 3, 4), num_head_channels=-1)
_ADM256 = _adm(256, (1, 1, 2, 2, 4, 4))
_ADM512 = _adm(512, (0.5, 1, 1, 2, 2, 4, 4))

PRESETS: Mapping[str, DDPMPreset] = {
    "cifar10": CIFAR10,
    "celebahq256": HIGH_RESOLUTION,
    "improved-cifar10": DDPMPreset(
        network=_improved(32, (1, 2, 2, 2), dropout=0.3),
        schedule="cosine",
        num_steps=4000,
        rescale_timesteps=True,
        display_name="Improved DDPM (CIFAR-10)",
        training_data="cifar10",
    ),
    "improved-imagenet64": DDPMPreset(
        network=_improved(64, (1, 2, 3, 4), dropout=0.0),
        schedule="cosine",
        num_steps=4000,
        rescale_timesteps=True,
        display_name="Improved DDPM (ImageNet 64)",
        training_data="imagenet",
    ),
    "improved-imagenet64-class": DDPMPreset(
        network=replace(
            _improved(64, (1, 2, 3, 4), dropout=0.0),
            model_channels=192,
            num_classes=IMAGENET_CLASSES,
        ),
        schedule="cosine",
        num_steps=4000,
        display_name="Improved DDPM (ImageNet 64, class-conditional)",
        training_data="imagenet",
    ),
    "adm64": DDPMPreset(
        network=_ADM64,
        schedule="cosine",
        classifier=_adm_classifier(_ADM64, depth=4),
        classifier_scale=1.0,
        display_name="ADM (ImageNet 64)",
        training_data="imagenet",
    ),
    "adm128": DDPMPreset(
        network=_ADM128,
        schedule="linear",
        classifier=_adm_classifier(_ADM128),
        classifier_scale=0.5,
        display_name="ADM (ImageNet 128)",
        training_data="imagenet",
    ),
    "adm256": DDPMPreset(
        network=_ADM256,
        schedule="linear",
        classifier=_adm_classifier(_ADM256),
        classifier_scale=1.0,
        display_name="ADM (ImageNet 256)",
        training_data="imagenet",
    ),
    "adm256-unconditional": DDPMPreset(
        network=replace(_ADM256, num_classes=None),
        schedule="linear",
        classifier=_adm_classifier(_ADM256),
        classifier_scale=10.0,
        display_name="ADM (ImageNet 256, unconditional)",
        training_data="imagenet",
    ),
    "adm512": DDPMPreset(
        network=_ADM512,
        schedule="linear",
        classifier=_adm_classifier(_ADM512),
        classifier_scale=4.0,
        display_name="ADM (ImageNet 512)",
        training_data="imagenet",
    ),
}
"""By the name behind `ddpm:`; weights are fetched apart."""
