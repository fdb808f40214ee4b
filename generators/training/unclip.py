"""Training of unCLIP's networks; CLIP is read from the zoo and stays as it is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from generators.diffusion.losses import simple_loss
from generators.diffusion.process import DiffusionProcess
from generators.pixels import from_uint8
from generators.training.data import Batch, TrainingSet
from generators.training.networks import drop_captions, noised
from generators.unclip.autoregressive import AutoregressivePrior, AutoregressivePriorConfig
from generators.unclip.conditioning import FrozenClip
from generators.unclip.prior import DiffusionPrior, PriorConfig

NUM_TIMESTEPS = 1000
FIT_IMAGES = 5_000
"""Training images that the codes of the autoregressive prior are fitted to."""
FIT_BATCH = 250


class DiffusionPriorTraining(nn.Module):
    """The diffusion prior on the squared error of the clean embedding.

    Args:
        model: Settings of `PriorConfig`.
        objective: `schedule`; `caption_dropout`, the share of captions that are replaced by an
            empty one (appendix C: 10 %); `clip`, a file in the place of the zoo's `clip-tiny`.
    """

    def __init__(self, model: Mapping[str, Any], objective: Mapping[str, Any]) -> None:
        super().__init__()
        self.network = DiffusionPrior(PriorConfig.from_flat(model))
        self.clip = clip_of(objective)
        self.trained_with = {self.clip.name: self.clip.sha256}
        self.caption_dropout = float(objective["caption_dropout"])
        self.process = prior_process(objective["schedule"])

    def forward(self, batch: Batch) -> Tensor:
        """Mean loss of the batch."""
        self.clip.to(batch.images.device)
        z_0 = self.clip.embed_images(batch.images) * self.clip.scale
        caption = self.clip.read_captions(drop_captions(batch, self.caption_dropout))
        z_t, t, noise = noised(self.process, z_0, batch.generator)
        predicted = self.network(z_t, t, caption)
        return simple_loss(self.process, predicted.float(), z_0, t, noise).mean()


class AutoregressivePriorTraining(nn.Module):
    """The autoregressive prior on the cross-entropy of its codes.

    Args:
        model: Settings of `AutoregressivePriorConfig`.
        objective: `caption_dropout` and `clip`, as for the diffusion prior.
    """

    def __init__(self, model: Mapping[str, Any], objective: Mapping[str, Any]) -> None:
        super().__init__()
        self.network = AutoregressivePrior(AutoregressivePriorConfig.from_flat(model))
        self.clip = clip_of(objective)
        self.trained_with = {self.clip.name: self.clip.sha256}
        self.caption_dropout = float(objective["caption_dropout"])

    def prepare(self, data: TrainingSet) -> None:
        """Fits the codes to the first training images, each with its first caption."""
        count = min(FIT_IMAGES, len(data.images))
        found, cosines = [], []
        for start in range(0, count, FIT_BATCH):
            rows = slice(start, min(start + FIT_BATCH, count))
            images = self.clip.embed_images(from_uint8(torch.from_numpy(data.images[rows])))
            texts = self.clip.read_captions([texts[0] for texts in data.captions[rows]])
            found.append(images * self.clip.scale)
            cosines.append((images * texts.embedding).sum(dim=1))
        self.network.codes.fit(torch.cat(found), torch.cat(cosines))

    def forward(self, batch: Batch) -> Tensor:
        """Mean loss of the batch, in nats a code."""
        self.clip.to(batch.images.device)
        unit = self.clip.embed_images(batch.images)
        cosines = (unit * self.clip.read_captions(batch.captions).embedding).sum(dim=1)
        told = self.clip.read_captions(drop_captions(batch, self.caption_dropout))
        return self.network.loss(unit * self.clip.scale, cosines, told).mean()


def clip_of(objective: Mapping[str, Any]) -> FrozenClip:
    """The CLIP that a recipe trains beside."""
    given = objective.get("clip")
    return FrozenClip.from_zoo(None if given is None else Path(given))


def prior_process(schedule: str) -> DiffusionProcess:
    """Timesteps of the diffusion prior: it predicts z_0, its variance is fixed."""
    return DiffusionProcess.from_schedule(
        schedule, NUM_TIMESTEPS, prediction="x_0", variance="fixed_small"
    )
