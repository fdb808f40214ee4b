"""What a recipe can train: each row builds a network and its loss.

Randomness comes from the batch's generator on the CPU, so a step is a function of (seed, step).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from generators.clip.model import Clip, ClipConfig, clip_loss
from generators.ddpm.tiny import build_classifier, build_network
from generators.diffusion.losses import hybrid_loss, velocity_weight
from generators.diffusion.process import DiffusionProcess
from generators.diffusion.schedules import REFERENCE_STEPS
from generators.glide.model import GlideConfig, SuperResText2ImUNet, Text2ImUNet
from generators.glide.residual import to_residual
from generators.pixels import requantise, shrink
from generators.tokenizer import BytePairTokenizer
from generators.training.data import Batch
from generators.training.steps import (
    Timesteps,
    drop_captions,
    labels_of,
    noised,
    on_device,
    random_crops,
)
from generators.zoo import tiny_tokenizer

NETWORKS: dict[str, str] = {
    "glide-base": "generators.training.networks:GlideBaseTraining",
    "glide-upsampler": "generators.training.networks:GlideUpsamplerTraining",
    "clip": "generators.training.networks:ClipTraining",
    "dalle-dvae": "generators.dalle.training:DVAETraining",
    "dalle-transformer": "generators.dalle.training:DalleTraining",
    "unclip-prior": "generators.training.unclip:DiffusionPriorTraining",
    "unclip-prior-ar": "generators.training.unclip:AutoregressivePriorTraining",
    "unclip-decoder": "generators.training.unclip:DecoderTraining",
    "unclip-upsampler": "generators.training.unclip:UnclipUpsamplerTraining",
    "imagen-t5": "generators.training.imagen:T5Training",
    "imagen-base": "generators.training.imagen:ImagenBaseTraining",
    "imagen-upsampler": "generators.training.imagen:ImagenUpsamplerTraining",
    "noised-clip": "generators.training.networks:NoisedClipTraining",
    "ddpm": "generators.training.networks:DdpmTraining",
    "noisy-classifier": "generators.training.networks:NoisyClassifierTraining",
}


class GlideBaseTraining(nn.Module):
    """GLIDE's base network on its hybrid loss, with captions dropped for guidance.

    Args:
        model: Settings of `GlideConfig.from_flat`.
        objective: `schedule`; `caption_dropout`, the share of captions that are replaced by an
            empty one (GLIDE section 3.3: 20 %); `weight_cap`, above 1 makes the timesteps that a
            caption decides count more (see `velocity_weight`); `timestep_focus`, see `Timesteps`.
    """

    def __init__(self, model: Mapping[str, Any], objective: Mapping[str, Any]) -> None:
        super().__init__()
        config = GlideConfig.from_flat(model)
        assert config.text is not None
        self.network = Text2ImUNet(config)
        self.tokenizer = tiny_tokenizer()
        self.length = config.text.text_ctx
        self.size_px = config.unet.image_size
        self.caption_dropout = float(objective["caption_dropout"])
        self.weight_cap = float(objective.get("weight_cap", 1.0))
        self.timesteps = Timesteps(objective.get("timestep_focus"))
        self.process = DiffusionProcess.from_objective(objective)

    def forward(self, batch: Batch) -> Tensor:
        """Mean loss of the batch."""
        x_0 = shrink(batch.images, self.size_px)
        captions = drop_captions(batch, self.caption_dropout)
        tokens = on_device(self.tokenizer, captions, self.length, x_0.device)
        x_t, t, noise = noised(self.process, x_0, batch.generator, self.timesteps)
        output = self.network(x_t, t, tokens.ids, tokens.mask)
        weight = velocity_weight(self.process, t, cap=self.weight_cap)
        return hybrid_loss(self.process, output.float(), x_0, x_t, t, noise, weight=weight).mean()


class GlideUpsamplerTraining(nn.Module):
    """GLIDE's upsampler on crops, conditioned on the image shrunk by an area mean.

    Args:
        model: Settings of `GlideConfig.from_flat`.
        objective: `schedule`; `prediction` (`eps`, or `v`, which keeps the colours of few steps
            true: Salimans & Ho 2022); `low_res_px`, the edge of the whole low-resolution image;
            `crop_px`, the edge of the crops it is trained on (a network without attention works at
            any size); `low_res_noise`, deviation of the noise on the low-resolution image in
            [-1, 1], which makes up for a base model's faults; `residual_scale`, where the network
            is to make what the enlarged image lacks (see `generators.glide.residual`).
    """

    def __init__(self, model: Mapping[str, Any], objective: Mapping[str, Any]) -> None:
        super().__init__()
        config = GlideConfig.from_flat(model)
        self.network = SuperResText2ImUNet(config)
        self.size_px = config.unet.image_size
        self.factor = config.unet.image_size // int(objective["low_res_px"])
        self.crop_px = int(objective["crop_px"])
        self.low_res_noise = float(objective.get("low_res_noise", 0.0))
        self.residual_scale = objective.get("residual_scale")
        self.process = DiffusionProcess.from_objective(objective)

    def forward(self, batch: Batch) -> Tensor:
        """Mean loss of the batch."""
        images = shrink(batch.images, self.size_px)
        x_0 = random_crops(images, self.crop_px, self.factor, batch.generator)
        low_res = requantise(shrink(x_0, self.crop_px // self.factor))
        low_res = self.degraded(low_res, batch.generator)
        if self.residual_scale is not None:
            x_0 = to_residual(x_0, low_res, self.residual_scale)
        x_t, t, noise = noised(self.process, x_0, batch.generator)
        output = self.network(x_t, t, low_res)
        return hybrid_loss(self.process, output.float(), x_0, x_t, t, noise).mean()

    def degraded(self, low_res: Tensor, generator: torch.Generator) -> Tensor:
        """What the network sees of a clean low-resolution image."""
        return low_res + self.low_res_noise * torch.randn(low_res.shape, generator=generator).to(
            low_res
        )


class ClipTraining(nn.Module):
    """CLIP on its symmetric loss; equal captions in a batch are not each other's wrong answer.

    Args:
        model: Settings of `ClipConfig`.
        objective: None.
    """

    def __init__(self, model: Mapping[str, Any], objective: Mapping[str, Any]) -> None:
        super().__init__()
        self.network = Clip(ClipConfig(**{**model, **objective}))
        self.tokenizer = tiny_tokenizer()

    def forward(self, batch: Batch) -> Tensor:
        """Mean loss of the batch, in nats."""
        return contrastive_loss(
            self.network, self.tokenizer, self.network.encode_image(batch.images), batch.captions
        )


class NoisedClipTraining(nn.Module):
    """CLIP on noisy images, for guiding a base model (GLIDE, section 2.4).

    Args:
        model: Settings of `ClipConfig`, its `image_size` being the base model's.
        objective: `schedule`, the base model's.
    """

    def __init__(self, model: Mapping[str, Any], objective: Mapping[str, Any]) -> None:
        super().__init__()
        self.network = Clip(ClipConfig(**model, num_timesteps=REFERENCE_STEPS))
        self.tokenizer = tiny_tokenizer()
        self.process = DiffusionProcess.from_objective(objective)

    def forward(self, batch: Batch) -> Tensor:
        """Mean loss of the batch, in nats."""
        x_0 = shrink(batch.images, self.network.config.image_size)
        x_t, t, _ = noised(self.process, x_0, batch.generator)
        images = self.network.encode_image(x_t, t)
        return contrastive_loss(self.network, self.tokenizer, images, batch.captions)


class DdpmTraining(nn.Module):
    """A DDPM on its hybrid loss, unconditional or (with `num_classes`) told the label.

    Args:
        model: Settings of `generators.ddpm.tiny.build_network`.
        objective: `schedule` and `prediction`; `weight_cap` and `timestep_focus` as in
            `GlideBaseTraining`.
    """

    def __init__(self, model: Mapping[str, Any], objective: Mapping[str, Any]) -> None:
        super().__init__()
        self.network = build_network(model)
        self.size_px = int(model["image_size"])
        self.takes_labels = "num_classes" in model
        self.weight_cap = float(objective.get("weight_cap", 1.0))
        self.timesteps = Timesteps(objective.get("timestep_focus"))
        self.process = DiffusionProcess.from_objective(objective)

    def forward(self, batch: Batch) -> Tensor:
        """Mean loss of the batch."""
        x_0 = shrink(batch.images, self.size_px)
        x_t, t, noise = noised(self.process, x_0, batch.generator, self.timesteps)
        output = self.network(x_t, t, labels_of(batch) if self.takes_labels else None)
        weight = velocity_weight(self.process, t, cap=self.weight_cap)
        return hybrid_loss(self.process, output.float(), x_0, x_t, t, noise, weight=weight).mean()


class NoisyClassifierTraining(nn.Module):
    """A classifier of noisy images on cross-entropy (Dhariwal & Nichol 2021, section 4).

    Args:
        model: Settings of `generators.ddpm.tiny.build_classifier`.
        objective: `schedule`, that of the network it is to guide.
    """

    def __init__(self, model: Mapping[str, Any], objective: Mapping[str, Any]) -> None:
        super().__init__()
        self.network = build_classifier(model)
        self.size_px = int(model["image_size"])
        self.process = DiffusionProcess.from_objective(objective)

    def forward(self, batch: Batch) -> Tensor:
        """Mean loss of the batch, in nats."""
        x_t, t, _ = noised(self.process, shrink(batch.images, self.size_px), batch.generator)
        return F.cross_entropy(self.network(x_t, t).float(), labels_of(batch))


def contrastive_loss(
    clip: Clip, tokenizer: BytePairTokenizer, images: Tensor, captions: Sequence[str]
) -> Tensor:
    """CLIP's loss of embedded images and their captions; equal captions are no wrong answers."""
    tokens = on_device(tokenizer, captions, clip.config.context_length, images.device)
    seen: dict[str, int] = {}
    groups = [seen.setdefault(caption.lower(), len(seen)) for caption in captions]
    texts = clip.encode_text(tokens.ids, tokens.mask)
    return clip_loss(images, texts, clip.logit_scale, groups)
