"""Training of GLIDE's two networks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from generators.diffusion.losses import hybrid_loss, velocity_weight
from generators.diffusion.process import DiffusionProcess
from generators.errors import ArchitectureError
from generators.glide.model import GlideConfig, SuperResText2ImUNet, Text2ImUNet
from generators.glide.pipeline import (
    Enlarging,
    encode_captions,
    sample_base,
    sample_upsampler,
)
from generators.glide.residual import to_residual
from generators.pixels import requantise, shrink
from generators.tokenizer import tiny_tokenizer
from generators.training.data import SHAPES_INPUTS, Batch, Inputs
from generators.training.draws import Draws
from generators.training.previews import preview
from generators.training.steps import (
    Timesteps,
    check_crops,
    check_image_size,
    drop_captions,
    noised,
    on_device,
    random_crops,
)
from generators.training.things import ThingsTold


class GlideBaseTraining(nn.Module):
    """GLIDE's base network on its hybrid loss, with captions dropped for guidance.

    Args:
        model: Settings of `GlideConfig.from_flat`.
        objective: `schedule`; `caption_dropout`, the share of captions that are replaced by an
            empty one (GLIDE section 3.3: 20 %); `weight_cap`, above 1 makes the timesteps that a
            caption decides count more (see `velocity_weight`); `timestep_focus`, see `Timesteps`;
            `bound`, adjectives and nouns, and `bound_weight`: the text transformer learns from the
            captions which belong together (see `ThingsTold`), by default nothing.
        inputs: Edge of the training images, and the tokenizer.
    """

    def __init__(
        self,
        model: Mapping[str, Any],
        objective: Mapping[str, Any],
        inputs: Inputs = SHAPES_INPUTS,
    ) -> None:
        super().__init__()
        config = GlideConfig.from_flat(model)
        if config.text is None:
            raise ArchitectureError(
                "GLIDE's base reads captions: model needs xf_width, xf_heads, xf_layers, n_vocab "
                "and text_ctx."
            )
        self.network = Text2ImUNet(config)
        self.tokenizer = inputs.tokenizer or tiny_tokenizer()
        self.length = config.text.text_ctx
        self.size_px = check_image_size(config.unet.image_size, inputs.image_px)
        self.caption_dropout = float(objective["caption_dropout"])
        self.weight_cap = float(objective.get("weight_cap", 1.0))
        self.timesteps = Timesteps(objective.get("timestep_focus"))
        self.process = DiffusionProcess.from_objective(objective)
        self.things = ThingsTold.from_objective(objective, config.text.xf_width, self.tokenizer)
        self.things_weight = float(objective.get("bound_weight") or 0.0)

    def forward(self, batch: Batch) -> Tensor:
        """Return the mean loss of the batch."""
        x_0 = shrink(batch.images, self.size_px)
        captions = drop_captions(batch, self.caption_dropout)
        tokens = on_device(self.tokenizer, captions, self.length, x_0.device)
        x_t, t, noise = noised(self.process, x_0, batch.draws, self.timesteps)
        text = self.network.encode_text(tokens.ids, tokens.mask)
        output = self.network(x_t, t, text=text)
        weight = velocity_weight(self.process, t, cap=self.weight_cap)
        loss = hybrid_loss(self.process, output.float(), x_0, x_t, t, noise, weight=weight).mean()
        if self.things is not None:
            loss = loss + self.things_weight * self.things(text.states, captions)
        return loss

    def samples(self, network: Text2ImUNet, batch: Batch) -> Tensor:
        """Sample the captions of a batch; images in [-1, 1]."""
        captions = encode_captions(network, self.tokenizer, batch.captions)
        sampling = preview(self.process, guided=self.caption_dropout > 0)
        return sample_base(network, captions, batch.draws.rngs, sampling)


class GlideUpsamplerTraining(nn.Module):
    """GLIDE's upsampler on crops, conditioned on the image shrunk by an area mean.

    Args:
        model: Settings of `GlideConfig.from_flat`.
        objective: `schedule`; `prediction` (`eps`, or `v`, which keeps the colours of few steps
            true: Salimans & Ho 2022); `low_res_px`, the edge of the whole low-resolution image;
            `crop_px`, the edge of the crops it is trained on (a network without attention works at
            any size); `low_res_noise`, deviation of the noise on the low-resolution image in
            [-1, 1], which makes up for a base model's faults; `residual_scale`, where the network
            is to make what the enlarged image lacks (see `generators.glide.residual`);
            `caption_dropout`, where the network reads captions.
        inputs: Edge of the training images, and the tokenizer.
    """

    def __init__(
        self,
        model: Mapping[str, Any],
        objective: Mapping[str, Any],
        inputs: Inputs = SHAPES_INPUTS,
    ) -> None:
        super().__init__()
        config = GlideConfig.from_flat(model)
        self.network = SuperResText2ImUNet(config)
        self.size_px = config.unet.image_size
        self.factor, self.crop_px = check_crops(
            self.size_px,
            int(objective["low_res_px"]),
            int(objective["crop_px"]),
            inputs.image_px,
        )
        if self.crop_px < self.size_px and config.text is not None:
            raise ArchitectureError(
                f"This upsampler reads captions, which describe whole images: set "
                f"objective.crop_px to model.image_size ({self.size_px}), got {self.crop_px}."
            )
        self.length = config.text.text_ctx if config.text else 0
        self.tokenizer = inputs.tokenizer or tiny_tokenizer()
        self.caption_dropout = float(objective.get("caption_dropout", 0.0))
        self.low_res_noise = float(objective.get("low_res_noise", 0.0))
        self.residual_scale = objective.get("residual_scale")
        self.process = DiffusionProcess.from_objective(objective)

    def forward(self, batch: Batch) -> Tensor:
        """Return the mean loss of the batch."""
        images = shrink(batch.images, self.size_px)
        x_0 = random_crops(images, self.crop_px, self.factor, batch.draws)
        low_res = requantise(shrink(x_0, self.crop_px // self.factor))
        low_res = self.degraded(low_res, batch.draws)
        if self.residual_scale is not None:
            x_0 = to_residual(x_0, low_res, self.residual_scale)
        x_t, t, noise = noised(self.process, x_0, batch.draws)
        output = self.network(x_t, t, low_res, *self.read(batch))
        return hybrid_loss(self.process, output.float(), x_0, x_t, t, noise).mean()

    def samples(self, network: SuperResText2ImUNet, batch: Batch) -> Tensor:
        """Enlarge the shrunk images of a batch; images in [-1, 1]."""
        small = shrink(batch.images, self.size_px // self.factor)
        return sample_upsampler(
            network,
            small,
            encode_captions(network, self.tokenizer, batch.captions) if network.text else None,
            batch.draws.rngs,
            preview(self.process),
            enlarging=Enlarging(temperature=1.0, residual_scale=self.residual_scale),
        )

    def read(self, batch: Batch) -> tuple[Tensor, ...]:
        """Return the ids and the mask of the captions, for a network that reads them."""
        if not self.length:
            return ()
        captions = drop_captions(batch, self.caption_dropout)
        tokens = on_device(self.tokenizer, captions, self.length, batch.images.device)
        return tokens.ids, tokens.mask

    def degraded(self, low_res: Tensor, draws: Draws) -> Tensor:
        """Degrade a clean low-resolution image to what the network sees."""
        return low_res + self.low_res_noise * draws.randn(*low_res.shape[1:]).to(
            low_res, non_blocking=True
        )
