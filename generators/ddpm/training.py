"""Training of the DDPM family: the U-Net and the noisy classifier that guides it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from generators.ddpm.pipeline import sample_images
from generators.ddpm.tiny import build_classifier, build_network
from generators.diffusion.losses import hybrid_loss, velocity_weight
from generators.diffusion.process import DiffusionProcess
from generators.pixels import shrink
from generators.training.data import SHAPES_INPUTS, Batch, Inputs, TrainingData
from generators.training.previews import preview
from generators.training.steps import Timesteps, check_image_size, noised, require_labels


class DdpmTraining(nn.Module):
    """A DDPM on its hybrid loss, unconditional or (with `num_classes`) class-conditional.

    Args:
        model: Settings of `generators.ddpm.tiny.build_network`.
        objective: `schedule` and `prediction`; `weight_cap` and `timestep_focus` as in
            `GlideBaseTraining`.
    """

    def __init__(
        self,
        model: Mapping[str, Any],
        objective: Mapping[str, Any],
        inputs: Inputs = SHAPES_INPUTS,
    ) -> None:
        super().__init__()
        self.network = build_network(model)
        self.size_px = check_image_size(int(model["image_size"]), inputs.image_px)
        self.takes_labels = "num_classes" in model
        self.weight_cap = float(objective.get("weight_cap", 1.0))
        self.timesteps = Timesteps(objective.get("timestep_focus"))
        self.process = DiffusionProcess.from_objective(objective)

    def prepare(self, data: TrainingData) -> None:
        """Check that each image has a class, if the network learns classes."""
        if self.takes_labels:
            require_labels(data.labels)

    def forward(self, batch: Batch) -> Tensor:
        """Return the mean loss of the batch."""
        x_0 = shrink(batch.images, self.size_px)
        x_t, t, noise = noised(self.process, x_0, batch.draws, self.timesteps)
        output = self.network(x_t, t, batch.labels if self.takes_labels else None)
        weight = velocity_weight(self.process, t, cap=self.weight_cap)
        return hybrid_loss(self.process, output.float(), x_0, x_t, t, noise, weight=weight).mean()

    def samples(self, network: nn.Module, batch: Batch) -> Tensor:
        """Sample as many images as a batch has, of its classes if there are any; in [-1, 1]."""
        return sample_images(
            network,
            batch.draws.rngs,
            preview(self.process),
            size_px=self.size_px,
            labels=batch.labels if self.takes_labels else None,
            label_network=self.takes_labels,
        )


class NoisyClassifierTraining(nn.Module):
    """A classifier of noisy images on cross-entropy (Dhariwal & Nichol 2021, section 4).

    Args:
        model: Settings of `generators.ddpm.tiny.build_classifier`.
        objective: `schedule`, that of the network it is to guide.
    """

    def __init__(
        self,
        model: Mapping[str, Any],
        objective: Mapping[str, Any],
        inputs: Inputs = SHAPES_INPUTS,
    ) -> None:
        super().__init__()
        self.network = build_classifier(model)
        self.size_px = check_image_size(int(model["image_size"]), inputs.image_px)
        self.process = DiffusionProcess.from_objective(objective)

    def prepare(self, data: TrainingData) -> None:
        """Check that each image has a class."""
        require_labels(data.labels)

    def forward(self, batch: Batch) -> Tensor:
        """Return the mean loss of the batch, in nats."""
        x_t, t, _ = noised(self.process, shrink(batch.images, self.size_px), batch.draws)
        return F.cross_entropy(self.network(x_t, t).float(), batch.labels)
