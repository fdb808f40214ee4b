"""Training of unCLIP's networks; CLIP is read from the zoo and stays as it is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from generators.diffusion.losses import hybrid_loss, simple_loss, velocity_weight
from generators.diffusion.process import DiffusionProcess
from generators.glide.pipeline import sample_base
from generators.glide.training import GlideUpsamplerTraining
from generators.pixels import from_uint8, shrink
from generators.training.data import SHAPES_INPUTS, Batch, Inputs, TrainingData
from generators.training.draws import Draws
from generators.training.previews import preview
from generators.training.steps import (
    Timesteps,
    check_image_size,
    drop_captions,
    noised,
    on_device,
)
from generators.unclip.autoregressive import AutoregressivePrior, AutoregressivePriorConfig
from generators.unclip.conditioning import FrozenClip
from generators.unclip.decoder import DecoderConfig, UnclipDecoder, decoder_captions
from generators.unclip.degradations import resolve_degradation
from generators.unclip.pipeline import prior_process
from generators.unclip.prior import DiffusionPrior, PriorConfig

FIT_IMAGES = 5_000
"""Training images that the codes of the autoregressive prior are fitted to."""
FIT_BATCH = 250


class DiffusionPriorTraining(nn.Module):
    """The diffusion prior on the squared error of the clean embedding.

    Args:
        model: Settings of `PriorConfig`.
        objective: `schedule`; `caption_dropout`, the share of captions that are replaced by an
            empty one (appendix C: 10 %); `clip`, a file that replaces the zoo's `clip-tiny`.
    """

    def __init__(
        self,
        model: Mapping[str, Any],
        objective: Mapping[str, Any],
        inputs: Inputs = SHAPES_INPUTS,
    ) -> None:
        super().__init__()
        self.network = DiffusionPrior(PriorConfig.from_flat(model))
        self.clip = clip_of(objective)
        self.trained_with = {self.clip.name: self.clip.sha256}
        self.caption_dropout = float(objective["caption_dropout"])
        self.process = prior_process(objective)

    def forward(self, batch: Batch) -> Tensor:
        """Return the mean loss of the batch."""
        self.clip.to(batch.images.device)
        z_0 = self.clip.embed_images(batch.images) * self.clip.scale
        caption = self.clip.read_captions(drop_captions(batch, self.caption_dropout))
        z_t, t, noise = noised(self.process, z_0, batch.draws)
        predicted = self.network(z_t, t, caption)
        return simple_loss(self.process, predicted.float(), z_0, t, noise).mean()


class AutoregressivePriorTraining(nn.Module):
    """The autoregressive prior on the cross-entropy of its codes.

    Args:
        model: Settings of `AutoregressivePriorConfig`.
        objective: `caption_dropout` and `clip`, as for the diffusion prior.
    """

    def __init__(
        self,
        model: Mapping[str, Any],
        objective: Mapping[str, Any],
        inputs: Inputs = SHAPES_INPUTS,
    ) -> None:
        super().__init__()
        self.network = AutoregressivePrior(AutoregressivePriorConfig.from_flat(model))
        self.clip = clip_of(objective)
        self.trained_with = {self.clip.name: self.clip.sha256}
        self.caption_dropout = float(objective["caption_dropout"])

    def prepare(self, data: TrainingData) -> None:
        """Fit the codes to the first training images, each with its first caption."""
        count = min(FIT_IMAGES, len(data))
        found, cosines = [], []
        for start in range(0, count, FIT_BATCH):
            rows = range(start, min(start + FIT_BATCH, count))
            images = self.clip.embed_images(from_uint8(torch.from_numpy(data.pixels(rows))))
            texts = self.clip.read_captions([data.captions[row][0] for row in rows])
            found.append(images * self.clip.scale)
            cosines.append((images * texts.embedding).sum(dim=1))
        self.network.codes.fit(torch.cat(found), torch.cat(cosines))

    def forward(self, batch: Batch) -> Tensor:
        """Return the mean loss of the batch, in nats per code."""
        self.clip.to(batch.images.device)
        unit = self.clip.embed_images(batch.images)
        cosines = (unit * self.clip.read_captions(batch.captions).embedding).sum(dim=1)
        caption = self.clip.read_captions(drop_captions(batch, self.caption_dropout))
        return self.network.loss(unit * self.clip.scale, cosines, caption).mean()


class DecoderTraining(nn.Module):
    """The decoder on GLIDE's hybrid loss, conditioned on the embedding of its target image.

    Args:
        model: Settings of `DecoderConfig.from_flat`.
        objective: `schedule`; `embedding_dropout` and `caption_dropout`, the shares of embeddings
            and captions that are left out, independently (section 2.1: 10 % and 50 %); `clip`;
            `weight_cap` and `timestep_focus`, as for GLIDE's base.
    """

    def __init__(
        self,
        model: Mapping[str, Any],
        objective: Mapping[str, Any],
        inputs: Inputs = SHAPES_INPUTS,
    ) -> None:
        super().__init__()
        self.network = UnclipDecoder(DecoderConfig.from_flat(model))
        self.clip = clip_of(objective)
        self.trained_with = {self.clip.name: self.clip.sha256}
        assert self.network.text is not None
        self.length = self.network.text.text_ctx
        check_image_size(self.network.config.image_size, inputs.image_px)
        self.caption_dropout = float(objective["caption_dropout"])
        self.embedding_dropout = float(objective["embedding_dropout"])
        self.weight_cap = float(objective.get("weight_cap", 1.0))
        self.timesteps = Timesteps(objective.get("timestep_focus"))
        self.process = DiffusionProcess.from_objective(objective)

    def forward(self, batch: Batch) -> Tensor:
        """Return the mean loss of the batch."""
        device = batch.images.device
        self.clip.to(device)
        embedding = self.clip.embed_images(batch.images) * self.clip.scale
        captions = drop_captions(batch, self.caption_dropout)
        kept = batch.draws.rand() >= self.embedding_dropout
        tokens = on_device(self.clip.tokenizer, captions, self.length, device)
        read = self.network.condition(
            tokens.ids, tokens.mask, embedding, kept.to(device, non_blocking=True)
        )
        x_0 = shrink(batch.images, self.network.config.image_size)
        x_t, t, noise = noised(self.process, x_0, batch.draws, self.timesteps)
        output = self.network(x_t, t, text=read)
        weight = velocity_weight(self.process, t, cap=self.weight_cap)
        return hybrid_loss(self.process, output.float(), x_0, x_t, t, noise, weight=weight).mean()

    def samples(self, network: UnclipDecoder, batch: Batch) -> Tensor:
        """Sample from the captions and the embeddings of a batch; images in [-1, 1]."""
        embedding = self.clip.embed_images(batch.images) * self.clip.scale
        captions = decoder_captions(network, self.clip.tokenizer, batch.captions, embedding)
        return sample_base(network, captions, batch.draws.rngs, preview(self.process, guided=True))


class UnclipUpsamplerTraining(GlideUpsamplerTraining):
    """GLIDE's upsampler on degraded low-resolution images.

    Args:
        model: Settings of `GlideConfig.from_flat`, without text.
        objective: As GLIDE's, with `degradation` (`blur` or `bsr`) instead of `low_res_noise`, and
            `degradation_share`, the share of images that it is applied to (Ho et al. 2021, section
            4.2, blur half of them, so that the network also knows what is sharp).
    """

    def __init__(
        self,
        model: Mapping[str, Any],
        objective: Mapping[str, Any],
        inputs: Inputs = SHAPES_INPUTS,
    ) -> None:
        super().__init__(model, objective, inputs)
        self.degrade = resolve_degradation(objective["degradation"])
        self.degradation_share = float(objective.get("degradation_share", 1.0))

    def degraded(self, low_res: Tensor, draws: Draws) -> Tensor:
        """Blur the images, or apply the BSR degradation, to some of them."""
        chosen = (draws.rand() < self.degradation_share).to(low_res.device)
        return torch.where(chosen[:, None, None, None], self.degrade(low_res, draws.rngs), low_res)


def clip_of(objective: Mapping[str, Any]) -> FrozenClip:
    """Load the frozen CLIP of a recipe."""
    given = objective.get("clip")
    return FrozenClip.from_zoo(None if given is None else Path(given))
