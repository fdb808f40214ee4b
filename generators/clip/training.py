"""Training of CLIP on clean images, and of the noised CLIP that guides a base network."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from evalkit.core.errors import ConfigError
from generators.clip.model import Clip, clip_loss
from generators.clip.tiny import build_noised
from generators.diffusion.process import DiffusionProcess
from generators.pixels import shrink
from generators.tokenizer import BytePairTokenizer, tiny_tokenizer
from generators.training.bindings import BindingsTold
from generators.training.data import SHAPES_INPUTS, Batch, Inputs
from generators.training.hard_negatives import HardNegatives
from generators.training.places import PlacesTold
from generators.training.steps import Timesteps, check_image_size, noised, on_device


class ClipTraining(nn.Module):
    """CLIP on its symmetric loss; equal captions in a batch are not each other's wrong answer.

    Args:
        model: Settings of `ClipConfig`.
        objective: `exchanged` and `opposites`, by default empty: which words of a caption make
            further wrong answers for its image (see `HardNegatives`); `told`, likewise, the words
            whose places are told (see `PlacesTold`); `bound`, the adjectives and the nouns whose
            pairs are told (see `BindingsTold`).
    """

    def __init__(
        self,
        model: Mapping[str, Any],
        objective: Mapping[str, Any],
        inputs: Inputs = SHAPES_INPUTS,
    ) -> None:
        super().__init__()
        self.network = Clip.from_flat(model)
        if self.network.config.image_size != inputs.image_px:
            raise ConfigError(
                f"model.image_size must be {inputs.image_px}, the edge of the training images, got "
                f"{self.network.config.image_size}."
            )
        self.tokenizer = inputs.tokenizer or tiny_tokenizer()
        self.negatives = HardNegatives.from_objective(objective)
        self.told = told_to_both(objective, self.network.config.embed_dim)

    def forward(self, batch: Batch) -> Tensor:
        """Return the mean loss of the batch, in nats."""
        images = self.network.encode_image(batch.images)
        return contrastive_loss(
            self.network, self.tokenizer, images, batch.captions, self.negatives, self.told
        )


class NoisedClipTraining(nn.Module):
    """CLIP on noisy images, for guiding a base model (GLIDE, section 2.4).

    Args:
        model: Settings of `ClipConfig`, its `image_size` being the base model's.
        objective: `schedule`, the base model's; `timestep_focus`, see `Timesteps`;
            `exchanged`, `opposites`, `told` and `bound`, as for a clean CLIP.
    """

    def __init__(
        self,
        model: Mapping[str, Any],
        objective: Mapping[str, Any],
        inputs: Inputs = SHAPES_INPUTS,
    ) -> None:
        super().__init__()
        self.network = build_noised(model)
        check_image_size(self.network.config.image_size, inputs.image_px)
        self.tokenizer = inputs.tokenizer or tiny_tokenizer()
        self.process = DiffusionProcess.from_objective(objective)
        self.timesteps = Timesteps(objective.get("timestep_focus"))
        self.negatives = HardNegatives.from_objective(objective)
        self.told = told_to_both(objective, self.network.config.embed_dim)

    def forward(self, batch: Batch) -> Tensor:
        """Return the mean loss of the batch, in nats."""
        x_0 = shrink(batch.images, self.network.config.image_size)
        x_t, t, _ = noised(self.process, x_0, batch.draws, self.timesteps)
        images = self.network.encode_image(x_t, t)
        return contrastive_loss(
            self.network, self.tokenizer, images, batch.captions, self.negatives, self.told
        )


def told_to_both(objective: Mapping[str, Any], embed_dim: int) -> nn.ModuleList:
    """Return what an objective tells both towers of their captions; their losses are added."""
    places = PlacesTold.from_objective(objective, embed_dim)
    taken = places.directions if places else None
    bindings = BindingsTold.from_objective(objective, embed_dim, taken)
    return nn.ModuleList(told for told in (places, bindings) if told is not None)


def contrastive_loss(
    clip: Clip,
    tokenizer: BytePairTokenizer,
    images: Tensor,
    captions: Sequence[str],
    negatives: HardNegatives,
    told: Iterable[nn.Module],
) -> Tensor:
    """Compute CLIP's loss; equal captions are not negatives of each other."""
    false = [negatives.of(caption) for caption in captions]
    read = [*captions, *chain.from_iterable(false)]
    tokens = on_device(tokenizer, read, clip.config.context_length, images.device)
    texts = clip.encode_text(tokens.ids, tokens.mask)
    own, others = texts[: len(captions)], texts[len(captions) :]
    seen: dict[str, int] = {}
    groups = [seen.setdefault(caption.lower(), len(seen)) for caption in captions]
    read_off = images.new_zeros(())
    for telling in told:
        read_off = read_off + (telling(images, captions) + telling(own, captions)) / 2
    if not len(others):
        return clip_loss(images, own, clip.logit_scale, groups) + read_off
    most = max(map(len, false))
    exists = torch.tensor([[k < len(made) for k in range(most)] for made in false])
    exists = exists.to(images.device, non_blocking=True)
    table = texts.new_zeros(*exists.shape, texts.shape[1]).masked_scatter(exists[..., None], others)
    return clip_loss(images, own, clip.logit_scale, groups, table, exists) + read_off
