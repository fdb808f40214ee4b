"""Training of the DDPM family: the U-Net and the noisy classifier that guides it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from generators.ddpm.tiny import build_classifier, build_network
from generators.diffusion.losses import hybrid_loss, velocity_weight
from generators.diffusion.process import DiffusionProcess
from generators.pixels import shrink
from generators.training.data import Batch
from generators.training.steps import Timesteps, check_image_size, labels_of, noised


class DdpmTraining(nn.Module):
    """A DDPM on its hybrid loss, unconditional or (with `num_classes`) class-conditional.

    Args:
        model: Settings of `generators.ddpm.tiny.build_network`.
        objective: `schedule` and `prediction`; `weight_cap` and `timestep_focus` as in
            `GlideBaseTraining`.
    """

    def __init__(self, model: Mapping[str, Any], objective: Mapping[str, Any]) -> None:
        super().__init__()
        self.network = build_network(model)
        self.size_px = check_image_size(int(model["image_size"]))
        self.takes_labels = "num_classes" in model
        self.weight_cap = float(objective.get("weight_cap", 1.0))
        self.timesteps = Timesteps(objective.get("timestep_focus"))
        self.process = DiffusionProcess.from_objective(objective)

    def forward(self, batch: Batch) -> Tensor:
        """Return the mean loss of the batch."""
        x_0 = shrink(batch.images, self.size_px)
        x_t, t, noise = noised(self.process, x_0, batch.rng, self.timesteps)
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
        self.size_px = check_image_size(int(model["image_size"]))
        self.process = DiffusionProcess.from_objective(objective)

    def forward(self, batch: Batch) -> Tensor:
        """Return the mean loss of the batch, in nats."""
        x_t, t, _ = noised(self.process, shrink(batch.images, self.size_px), batch.rng)
        return F.cross_entropy(self.network(x_t, t).float(), labels_of(batch))
