"""DALL-E's trainings: the discrete VAE on images, its decoder alone, the transformer on the codes.

All are steps of `generators.training.loop`; all randomness comes from the batch's draws.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from generators.dalle.dvae import (
    DVAE,
    DVAEConfig,
    cosine_decay,
    dvae_loss,
    logit_laplace_nll,
    spread_codes,
)
from generators.dalle.model import DalleConfig, DalleTransformer, dalle_loss
from generators.dalle.pipeline import check_codes, check_grid, paint, sample_codes, text_ids
from generators.pixels import from_uint8
from generators.tokenizer import tiny_tokenizer
from generators.training.data import SHAPES_INPUTS, Batch, Inputs, TrainingData
from generators.training.steps import drop_captions
from generators.training.things import ThingsTold
from generators.weights.zoo import ZooWeights, weights_named

SPREAD_IMAGES = 128
"""Training images that the codes are first spread over."""


class DVAETraining(nn.Module):
    """The discrete VAE on its relaxed evidence bound (appendix A.2).

    Args:
        model: Settings of `DVAEConfig`.
        objective: `tau_end` and `tau_steps`: the temperature falls from 1 to it over so many steps,
            on half a cosine; `kl_weight` and `kl_steps`: beta rises from 0 to it likewise;
            `usage_weight` and `logit_deviation`, by default 0: what keeps a short training from
            using few codes (see `usage_gap` and `spread_codes`).
    """

    def __init__(
        self,
        model: Mapping[str, Any],
        objective: Mapping[str, Any],
        inputs: Inputs = SHAPES_INPUTS,
    ) -> None:
        super().__init__()
        self.network = DVAE(DVAEConfig.from_flat(model))
        self.tau_end = float(objective["tau_end"])
        self.tau_steps = int(objective["tau_steps"])
        self.kl_weight = float(objective["kl_weight"])
        self.kl_steps = int(objective["kl_steps"])
        self.usage_weight = float(objective.get("usage_weight", 0.0))
        self.logit_deviation = float(objective.get("logit_deviation", 0.0))

    def prepare(self, data: TrainingData) -> None:
        """Spread the codes over the first training images if the recipe sets `logit_deviation`."""
        if self.logit_deviation:
            first = from_uint8(torch.from_numpy(data.pixels(range(min(SPREAD_IMAGES, len(data))))))
            spread_codes(self.network, (first + 1) / 2, self.logit_deviation)

    def forward(self, batch: Batch) -> Tensor:
        """Return the mean loss of the batch, in nats per value of the image."""
        return dvae_loss(
            self.network,
            (batch.images + 1) / 2,
            tau=cosine_decay(batch.step, start=1.0, end=self.tau_end, steps=self.tau_steps),
            kl_weight=cosine_decay(batch.step, start=0.0, end=self.kl_weight, steps=self.kl_steps),
            rngs=batch.draws.rngs,
            usage_weight=self.usage_weight,
        )

    def samples(self, network: DVAE, batch: Batch) -> Tensor:
        """Rebuild the images of a batch from their codes; images in [-1, 1]."""
        return rebuilt(network, batch)


class DecodingTraining(nn.Module):
    """The decoder alone, on the likeliest codes of a frozen encoder: what it reads in sampling.

    The relaxation that trains both halves shows the decoder blends of codes, and codes drawn by
    their probability. The codes stay what they were; a transformer of them still records the hash
    of both halves, and has to be trained on with the new file.

    Args:
        model: Settings of `DVAEConfig`.
        objective: Empty.
    """

    def __init__(
        self,
        model: Mapping[str, Any],
        objective: Mapping[str, Any],
        inputs: Inputs = SHAPES_INPUTS,
    ) -> None:
        super().__init__()
        self.network = DVAE(DVAEConfig.from_flat(model))
        self.network.encoder.requires_grad_(False)

    def forward(self, batch: Batch) -> Tensor:
        """Return the mean loss of the batch, in nats per value of the image."""
        x = (batch.images + 1) / 2
        with torch.autocast(batch.images.device.type, enabled=False):
            codes = self.network.encoder.codes(x)
        return logit_laplace_nll(self.network.decoder(codes), x).mean()

    def samples(self, network: DVAE, batch: Batch) -> Tensor:
        """Rebuild the images of a batch from their codes; images in [-1, 1]."""
        return rebuilt(network, batch)


class DalleTraining(nn.Module):
    """The transformer on captions and on the codes of a frozen discrete VAE (section 2.2).

    Args:
        model: Settings of `DalleConfig`.
        objective: `dvae`, the name of a trained discrete VAE of the zoo or a file of `evalkit
            train`; `bpe_dropout`, the share of merges left out when captions are cut;
            `caption_dropout`, the share of captions replaced by an empty one, which guidance reads
            later, by default none; `bound`, adjectives and nouns, and `bound_weight`: the captions'
            states learn which belong together (see `ThingsTold`), by default nothing.
    """

    def __init__(
        self,
        model: Mapping[str, Any],
        objective: Mapping[str, Any],
        inputs: Inputs = SHAPES_INPUTS,
    ) -> None:
        super().__init__()
        config = DalleConfig.from_flat(model)
        self.network = DalleTransformer(config)
        self.tokenizer = inputs.tokenizer or tiny_tokenizer()
        self.bpe_dropout = float(objective["bpe_dropout"])
        self.caption_dropout = float(objective.get("caption_dropout", 0.0))
        weights = weights_named(str(objective["dvae"]))
        self.dvae = dvae_from(weights).requires_grad_(False)
        self.trained_with = {weights.recipe.name: weights.sha256}
        self.things = ThingsTold.from_objective(
            objective, config.width, self.tokenizer, causal=True
        )
        self.things_weight = float(objective.get("bound_weight") or 0.0)
        check_codes(config, self.dvae.config, self.tokenizer.num_tokens)
        check_grid(config, self.dvae.config, inputs.image_px)

    def forward(self, batch: Batch) -> Tensor:
        """Return the mean loss of the batch, in nats per token."""
        dropping = self.caption_dropout > 0
        text, _ = text_ids(
            self.tokenizer,
            drop_captions(batch, self.caption_dropout) if dropping else batch.captions,
            self.network.config.text_length,
            dropout=self.bpe_dropout,
            rngs=batch.draws.rngs,
        )
        text = text.to(batch.images.device, non_blocking=True)
        with torch.autocast(batch.images.device.type, enabled=False):
            codes = self.dvae.encoder.codes((batch.images + 1) / 2).flatten(1)  # (B, N)
        text_logits, image_logits = self.network(text, codes)
        loss = dalle_loss(text_logits, image_logits, text, codes)
        if self.things is None:
            return loss
        whole, _ = text_ids(self.tokenizer, batch.captions, text.shape[1])
        states = self.network.text_states(whole.to(text.device, non_blocking=True))
        return loss + self.things_weight * self.things(states, batch.captions)

    def samples(self, network: DalleTransformer, batch: Batch) -> Tensor:
        """Sample the captions of a batch; images in [-1, 1]."""
        text, _ = text_ids(self.tokenizer, batch.captions, network.config.text_length)
        codes = sample_codes(network, text.to(batch.images.device), batch.draws.rngs)
        return paint(self.dvae.decoder, codes)


def rebuilt(network: DVAE, batch: Batch) -> Tensor:
    """Rebuild the images of a batch from their likeliest codes; images in [-1, 1]."""
    with torch.autocast(batch.images.device.type, enabled=False):
        codes = network.encoder.codes((batch.images + 1) / 2)
    return paint(network.decoder, codes.flatten(1))


def dvae_from(weights: ZooWeights) -> DVAE:
    """Build the discrete VAE with its trained weights, in evaluation mode."""
    return weights.network(DVAE, weights.recipe.name)
