"""Training of Imagen's networks, and before them of the text encoder that they read, frozen."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers.models.t5.modeling_t5 import T5ForConditionalGeneration, T5Stack

from evalkit.core.errors import ConfigError
from generators.diffusion.losses import simple_loss, velocity_weight
from generators.diffusion.process import DiffusionProcess
from generators.glide.model import TextStates
from generators.glide.residual import to_residual
from generators.imagen.augmentation import augmented, residual_scale_at, trusted
from generators.imagen.model import ImagenBase, ImagenConfig, ImagenUpsampler
from generators.imagen.pipeline import sample_base, sample_upsampler
from generators.imagen.teachers import ClipTeacher, GlideTeacher
from generators.imagen.text import (
    NUM_SENTINELS,
    TINY_LENGTH,
    FrozenT5,
    build_encoder,
    first_sentinel,
    t5_config,
    tiny_tokens,
)
from generators.pixels import requantise, shrink
from generators.tokenizer import tiny_tokenizer
from generators.training.data import SHAPES_INPUTS, Batch, Inputs
from generators.training.previews import preview
from generators.training.steps import (
    Timesteps,
    check_crops,
    check_image_size,
    noised,
    random_crops,
)
from generators.training.things import ThingsTold

IGNORED = -100
"""Label of positions without a loss, in transformers."""
POSITION_BIAS = "block.0.layer.0.SelfAttention.relative_attention_bias.weight"
"""Of a T5's encoder; it serves all layers. The first half of its buckets are tokens before."""


class T5Training(nn.Module):
    """A T5 by span corruption on captions (Raffel et al. 2020, section 3.1.4); images are unused.

    Args:
        model: What `t5_config` takes.
        objective: `noise_density`, the share of tokens that are cut out, and `mean_span`, the mean
            number of tokens of a cut.
    """

    def __init__(
        self,
        model: Mapping[str, Any],
        objective: Mapping[str, Any],
        inputs: Inputs = SHAPES_INPUTS,
    ) -> None:
        super().__init__()
        self.network = T5ForConditionalGeneration(t5_config(model))
        # transformers starts an untied head with deviation 1: a loss of 60 nats per token
        nn.init.normal_(self.network.lm_head.weight, std=float(model["d_model"]) ** -0.5)
        self.tokenizer = tiny_tokenizer()
        self.noise_density = float(objective["noise_density"])
        self.mean_span = float(objective["mean_span"])

    def forward(self, batch: Batch) -> Tensor:
        """Return the mean loss of the batch, in nats per token."""
        start, end = first_sentinel(self.tokenizer), self.tokenizer.end_id
        pairs = [
            corrupt_spans(
                self.tokenizer.encode(caption)[: TINY_LENGTH - 1],
                rng,
                first_sentinel=start,
                noise_density=self.noise_density,
                mean_span=self.mean_span,
            )
            for caption, rng in zip(batch.captions, batch.draws.rngs, strict=True)
        ]
        device = batch.images.device
        inputs, mask = _padded([[*kept, end] for kept, _ in pairs], end, device)
        labels, there = _padded([[*cut, end] for _, cut in pairs], IGNORED, device)
        labels = labels.masked_fill(~there, IGNORED)
        return self.network(input_ids=inputs, attention_mask=mask.long(), labels=labels).loss

    def exported(self, network: T5ForConditionalGeneration) -> nn.Module:
        """Return the part that ships, the encoder; the decoder only serves training."""
        return network.get_encoder()


class TaughtT5Training(nn.Module):
    """A T5's encoder, on the states of a GLIDE's text transformer; images are unused.

    A T5 of this size that has only read captions knows words as neighbours of words. The paper's
    has 4.6 B parameters and 750 GB of text; this one learns from a text transformer that was
    trained with images, and then stays frozen as the paper's.

    Args:
        model: What `t5_config` takes.
        objective: `teacher`, a GLIDE base of the zoo or a file of `evalkit train`, of the same
            width; `bound` and `bound_weight`, as for GLIDE's base: places make up too little of its
            states to be learned from them alone; `neighbours`, by default 0, what is added at the
            start to the first head's logits of the token before, and to the second's of the token
            behind. The order of words reaches a T5 only through these numbers, and a learning rate
            is small beside them.

    Raises:
        ConfigError: `neighbours` needs two heads, and the T5 has one.
    """

    def __init__(
        self,
        model: Mapping[str, Any],
        objective: Mapping[str, Any],
        inputs: Inputs = SHAPES_INPUTS,
    ) -> None:
        super().__init__()
        self.network: T5Stack = build_encoder(model)
        self.teacher = GlideTeacher(str(objective["teacher"]))
        self.trained_with = self.teacher.trained_with
        self.things = ThingsTold.from_objective(
            objective, self.network.config.d_model, self.teacher.tokenizer
        )
        self.things_weight = float(objective.get("bound_weight") or 0.0)
        self.neighbours = float(objective.get("neighbours", 0.0))
        if self.neighbours and self.network.config.num_heads < 2:
            raise ConfigError(
                "objective.neighbours is for two heads of the T5 (model.num_heads): give it two, "
                "or leave neighbours out."
            )

    def begin(self) -> None:
        """Let the first two heads look at the neighbours, whatever the weights are."""
        bias = self.network.get_parameter(POSITION_BIAS)  # (buckets, heads)
        before, behind = 1, len(bias) // 2 + 1
        if self.neighbours:
            with torch.no_grad():
                bias[before, 0] += self.neighbours
                bias[behind, 1] += self.neighbours

    def forward(self, batch: Batch) -> Tensor:
        """Return the mean squared error of the states, as a share of the teacher's mean square.

        The state of the end token is to be the teacher's last one, which it adds to the timestep.
        """
        device = batch.images.device
        tokens = tiny_tokens(batch.captions)
        ids, mask = tokens.ids.to(device), tokens.mask.to(device)
        states = self.network(input_ids=ids, attention_mask=mask.long()).last_hidden_state
        goal, _ = self.teacher.read(batch.captions, device)
        ends = mask.sum(dim=1) - 1
        rows = torch.arange(len(ends), device=device)
        goal = goal[:, : states.shape[1]].index_put((rows, ends), goal[:, -1])
        error = (states.float() - goal).square().mean(dim=-1)[mask].mean()
        loss = error / goal.square().mean(dim=-1)[mask].mean()
        if self.things is not None:
            words = states[:, :-1].transpose(1, 2)  # the last place can only be the end token's
            told = self.things(words, batch.captions)
            loss = loss + self.things_weight * told
        return loss


class _ImagenTraining(nn.Module):
    """What base and upsamplers share: frozen text, zeroed at random, and the process."""

    network: ImagenBase | ImagenUpsampler

    def __init__(self, objective: Mapping[str, Any]) -> None:
        super().__init__()
        given = objective.get("text_encoder")
        self.text = FrozenT5.from_zoo(None if given is None else Path(given))
        self.trained_with = {self.text.name: self.text.sha256}
        self.text_dropout = float(objective["text_dropout"])
        self.process = DiffusionProcess.from_objective(objective, variance="fixed_small")

    def read(self, batch: Batch) -> TextStates:
        """Return the captions' states as the network reads them, some of them set to zero."""
        return self.read_kept(batch, batch.draws.rand() >= self.text_dropout)

    def read_kept(self, batch: Batch, kept: Tensor) -> TextStates:
        """Return the captions' states as the network reads them, zero where they aren't kept."""
        states = self.text.to(batch.images.device).read(batch.captions).states
        return self.network.read_text(states * kept.to(states, non_blocking=True)[:, None, None])


class ImagenBaseTraining(_ImagenTraining):
    """The base on the squared error of its prediction.

    Args:
        model: Settings of `ImagenConfig.base_from_flat`.
        objective: `schedule`, `prediction`; `text_dropout`, the share of captions whose states are
            zeroed (section 2.2: 10 %); `text_encoder`, a file that replaces the zoo's;
            `weight_cap` and `timestep_focus`, as for GLIDE's base; `teacher`, the GLIDE base whose
            U-Net this one starts from: in the first `teacher_steps` steps, the pooled text states
            learn to be its vector of the caption, with a weight that falls from 1 to 0; `clip` and
            `clip_guidance`, a noised CLIP and a scale: with its caption, the network learns to
            predict the noise as CLIP guidance of that scale would change it.
    """

    def __init__(
        self,
        model: Mapping[str, Any],
        objective: Mapping[str, Any],
        inputs: Inputs = SHAPES_INPUTS,
    ) -> None:
        super().__init__(objective)
        self.network: ImagenBase = ImagenBase(ImagenConfig.base_from_flat(model))
        check_image_size(self.network.config.image_size, inputs.image_px)
        self.weight_cap = float(objective.get("weight_cap", 1.0))
        self.timesteps = Timesteps(objective.get("timestep_focus"))
        name = objective.get("teacher")
        self.teacher = None if name is None else GlideTeacher(str(name))
        if self.teacher is not None:
            self.trained_with = {**self.trained_with, **self.teacher.trained_with}
        self.teacher_steps = int(objective.get("teacher_steps", 1))
        name = objective.get("clip")
        schedule = str(objective["schedule"])
        self.clip = None if name is None else ClipTeacher(str(name), schedule)
        if self.clip is not None:
            self.trained_with = {**self.trained_with, **self.clip.trained_with}
        self.clip_guidance = float(objective.get("clip_guidance") or 0.0)

    def forward(self, batch: Batch) -> Tensor:
        """Return the mean loss of the batch."""
        x_0 = shrink(batch.images, self.network.config.image_size)
        kept = batch.draws.rand() >= self.text_dropout
        text = self.read_kept(batch, kept)
        x_t, t, noise = noised(self.process, x_0, batch.draws, self.timesteps)
        output = self.network(x_t, t, text)
        weight = velocity_weight(self.process, t, cap=self.weight_cap)
        if self.clip is not None:
            shift = self.clip.shift(batch.captions, x_t, t, self.process, self.clip_guidance)
            noise = noise - shift * kept.to(shift)[:, None, None, None]
        loss = (weight * simple_loss(self.process, output.float(), x_0, t, noise)).mean()
        if self.teacher is None or batch.step >= self.teacher_steps:
            return loss
        read = [c if keep else "" for c, keep in zip(batch.captions, kept.tolist(), strict=True)]
        _, goal = self.teacher.read(read, x_0.device)
        error = (text.proj.float() - goal).square().mean() / goal.square().mean()
        return loss + (1 - batch.step / self.teacher_steps) * error

    def samples(self, network: ImagenBase, batch: Batch) -> Tensor:
        """Sample the captions of a batch; images in [-1, 1]."""
        states = self.text.read(batch.captions).states
        sampling = preview(self.process, guided=self.text_dropout > 0)
        return sample_base(network, states, batch.draws.rngs, sampling)


class ImagenUpsamplerTraining(_ImagenTraining):
    """An upsampler on crops, its low-resolution images augmented at random levels.

    Args:
        model: Settings of `ImagenConfig.upsampler_from_flat`.
        objective: As for the base; and `low_res_px`, the edge of the whole low-resolution image,
            `crop_px`, the edge of the crops; `residual_scale`, where the network is to make only
            what the enlarged image lacks (see `generators.glide.residual`), which is the augmented
            image as far as it can be trusted; `most_noise`, the highest level that is drawn;
            `level_power`, by default 1: a level is the most times u to this power, u even in
            [0, 1], so that above 1 more of them are low.
    """

    def __init__(
        self,
        model: Mapping[str, Any],
        objective: Mapping[str, Any],
        inputs: Inputs = SHAPES_INPUTS,
    ) -> None:
        super().__init__(objective)
        self.network: ImagenUpsampler = ImagenUpsampler(ImagenConfig.upsampler_from_flat(model))
        self.size_px = self.network.config.image_size
        self.factor, self.crop_px = check_crops(
            self.size_px,
            int(objective["low_res_px"]),
            int(objective["crop_px"]),
            inputs.image_px,
        )
        self.residual_scale = objective.get("residual_scale")
        self.most_noise = float(objective.get("most_noise", 1.0))
        self.level_power = float(objective.get("level_power", 1.0))

    def forward(self, batch: Batch) -> Tensor:
        """Return the mean loss of the batch."""
        images = shrink(batch.images, self.size_px)
        x_0 = random_crops(images, self.crop_px, self.factor, batch.draws)
        low_res = requantise(shrink(x_0, self.crop_px // self.factor))
        drawn = batch.draws.rand().to(x_0, non_blocking=True)
        level = self.most_noise * drawn**self.level_power
        disturbance = batch.draws.randn(*low_res.shape[1:]).to(x_0, non_blocking=True)
        seen = augmented(low_res, level, disturbance)
        text = self.read(batch)
        if self.residual_scale is not None:
            scale = residual_scale_at(self.residual_scale, level)
            x_0 = to_residual(x_0, trusted(seen, level), scale)
        x_t, t, noise = noised(self.process, x_0, batch.draws)
        output = self.network(x_t, t, text, low_res=seen, aug_level=level)
        return simple_loss(self.process, output.float(), x_0, t, noise).mean()

    def samples(self, network: ImagenUpsampler, batch: Batch) -> Tensor:
        """Enlarge the shrunk images of a batch, without augmentation; images in [-1, 1]."""
        return sample_upsampler(
            network,
            shrink(batch.images, self.size_px // self.factor),
            self.text.read(batch.captions).states,
            batch.draws.rngs,
            preview(self.process),
            aug_level=0.0,
            residual_scale=self.residual_scale,
        )


def corrupt_spans(
    ids: Sequence[int],
    rng: torch.Generator,
    *,
    first_sentinel: int,
    noise_density: float,
    mean_span: float,
) -> tuple[list[int], list[int]]:
    """Replace spans of a caption by sentinels; the label is each sentinel and its span.

    Args:
        ids: At least two tokens.
        rng: Draws where the spans are.
        first_sentinel: Id of the first sentinel.
        noise_density: Share of tokens that are cut out.
        mean_span: Mean number of tokens of a span.

    Returns:
        The corrupted ids, and the label.
    """
    cut = min(max(1, round(len(ids) * noise_density)), len(ids) - 1)
    spans = min(max(1, round(cut / mean_span)), cut, len(ids) - cut, NUM_SENTINELS)
    kept_lengths = _parts(len(ids) - cut, spans, rng)
    cut_lengths = _parts(cut, spans, rng)
    corrupted: list[int] = []
    label: list[int] = []
    place = 0
    for index, (kept, gone) in enumerate(zip(kept_lengths, cut_lengths, strict=True)):
        corrupted += [*ids[place : place + kept], first_sentinel + index]
        label += [first_sentinel + index, *ids[place + kept : place + kept + gone]]
        place += kept + gone
    return corrupted, label


def _parts(total: int, count: int, rng: torch.Generator) -> list[int]:
    """Split a number into `count` positive parts, uniformly over all such splits."""
    cuts = sorted(torch.randperm(total - 1, generator=rng)[: count - 1].tolist())
    edges = [0, *(cut + 1 for cut in cuts), total]
    return [high - low for low, high in itertools.pairwise(edges)]


def _padded(
    rows: Sequence[Sequence[int]], fill: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Pad ids to one tensor; the mask is False on padding."""
    length = max(map(len, rows))
    ids = torch.tensor([[*row, *[fill] * (length - len(row))] for row in rows], device=device)
    lengths = torch.tensor([len(row) for row in rows], device=device)
    return ids, torch.arange(length, device=device) < lengths[:, None]
