"""DALL-E's transformer (Ramesh et al. 2021, section 2.2, appendix B): one stream of text and image.

    states   start  t_1 ... t_T      i_1 ... i_{N-1}
    predict  t_1    t_2 ... i_1      i_2 ... i_N

A caption shorter than T is filled up with padding tokens, another one for every position. Image
tokens get the sum of a row and a column embedding. In every layer an image token sees the whole
caption, and of the image what the layer's pattern allows (`masks.py`).

While sampling, each layer keeps the keys and values of the states so far (`KeyValueCache`), so that
a token costs one state and not the whole stream.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from generators.dalle.masks import Pattern, attention_mask, layer_patterns
from generators.errors import ArchitectureError
from generators.nn.normalization import LayerNorm
from generators.nn.precision import in_float32, kept_in_float32
from generators.nn.settings import config_from_flat

INIT_STD = 0.02


@dataclass(frozen=True, kw_only=True)
class DalleConfig:
    """Sizes of the transformer."""

    text_vocab: int
    """Byte-pair tokens, without the padding tokens."""
    text_length: int
    """T, positions of the caption."""
    image_vocab: int
    """Codes of the discrete VAE."""
    grid_size: int
    """Image tokens along an edge; N is its square."""
    width: int
    layers: int
    heads: int
    kernel_size: int = 11
    """Edge of the last layer's window."""

    @classmethod
    def from_flat(cls, settings: Mapping[str, Any]) -> DalleConfig:
        """Read settings as JSON or TOML have them.

        Raises:
            ArchitectureError: A setting is unknown or missing, or a size can't be built.
        """
        return config_from_flat(cls, settings, "DALL-E's transformer")

    def __post_init__(self) -> None:
        sizes = (self.text_vocab, self.text_length, self.image_vocab, self.grid_size, self.layers)
        if min(sizes) < 1 or self.heads < 1 or self.width % self.heads:
            raise ArchitectureError(
                "DALL-E's transformer needs positive sizes and a width that is a multiple of "
                f"heads, got {self}."
            )

    @property
    def num_image_tokens(self) -> int:
        """N."""
        return self.grid_size**2

    @property
    def num_text_ids(self) -> int:
        """Byte-pair tokens and the padding tokens of all positions."""
        return self.text_vocab + self.text_length

    @property
    def num_text_states(self) -> int:
        """The start token and the caption."""
        return self.text_length + 1

    @property
    def num_states(self) -> int:
        """All that the transformer reads; the last image token it only writes."""
        return self.num_text_states + self.num_image_tokens - 1


class KeyValueCache:
    """Keys and values of the states so far, of every layer.

    Args:
        config: Of the transformer.
        batch_size: Streams that are written at once.
        like: A tensor of the wanted type and device.
    """

    def __init__(self, config: DalleConfig, batch_size: int, like: Tensor) -> None:
        head_width = config.width // config.heads
        shape = (config.layers, 2, batch_size, config.heads, config.num_states, head_width)
        self.states = torch.empty(shape, dtype=like.dtype, device=like.device)
        self.length = 0
        """States that every layer has seen."""

    def extend(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Store new states of a layer and return all of its keys and values so far."""
        end = self.length + keys.shape[2]
        self.states[layer, 0, :, :, self.length : end] = keys
        self.states[layer, 1, :, :, self.length : end] = values
        return self.states[layer, 0, :, :, :end], self.states[layer, 1, :, :, :end]


class Attention(nn.Module):
    """Multi-head self-attention under a mask."""

    def __init__(self, config: DalleConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.qkv = nn.Linear(config.width, 3 * config.width)
        self.proj = nn.Linear(config.width, config.width)

    def forward(self, x: Tensor, mask: Tensor, cache: KeyValueCache | None, layer: int) -> Tensor:
        """Map (B, S, W) to (B, S, W), where S states follow those in the cache."""
        batch, length, width = x.shape
        split = self.qkv(x).view(batch, length, 3, self.heads, width // self.heads)
        q, k, v = split.permute(2, 0, 3, 1, 4)  # (B, heads, S, W / heads)
        if cache is not None:
            k, v = cache.extend(layer, k, v)  # (B, heads, P + S, W / heads)
        attended = F.scaled_dot_product_attention(q, k, v, mask)
        return self.proj(attended.transpose(1, 2).flatten(2))


class Block(nn.Module):
    """Attention, then two linear layers with GELU between, each behind a norm, beside a skip."""

    def __init__(self, config: DalleConfig) -> None:
        super().__init__()
        self.ln_1 = LayerNorm(config.width)
        self.attention = Attention(config)
        self.ln_2 = LayerNorm(config.width)
        self.mlp = nn.Sequential(
            nn.Linear(config.width, 4 * config.width),
            nn.GELU(),
            nn.Linear(4 * config.width, config.width),
        )

    def forward(self, x: Tensor, mask: Tensor, cache: KeyValueCache | None, layer: int) -> Tensor:
        """Map (B, S, W) to (B, S, W)."""
        x = x + self.attention(self.ln_1(x), mask, cache, layer)
        return x + self.mlp(self.ln_2(x))


class DalleTransformer(nn.Module):
    """Predicts every token of the stream from those before it."""

    masks: Tensor

    def __init__(self, config: DalleConfig) -> None:
        super().__init__()
        self.config = config
        self.text_embedding = nn.Embedding(config.num_text_ids, config.width)
        self.text_position = nn.Embedding(config.text_length, config.width)
        self.start = nn.Parameter(torch.zeros(config.width))
        self.image_embedding = nn.Embedding(config.image_vocab, config.width)
        self.row_embedding = nn.Embedding(config.grid_size, config.width)
        self.column_embedding = nn.Embedding(config.grid_size, config.width)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.ln_final = LayerNorm(config.width)
        self.to_text = nn.Linear(config.width, config.num_text_ids)
        self.to_image = kept_in_float32(nn.Linear(config.width, config.image_vocab))
        self.patterns = layer_patterns(config.layers)
        self.register_buffer("masks", self._masks(), persistent=False)
        self._initialise()

    @classmethod
    def from_flat(cls, settings: Mapping[str, Any]) -> DalleTransformer:
        """Build the network from flat settings; see `DalleConfig.from_flat`."""
        return cls(DalleConfig.from_flat(settings))

    def forward(
        self, text: Int[Tensor, "batch length"], image: Int[Tensor, "batch num_codes"]
    ) -> tuple[Float[Tensor, "batch length text_ids"], Float[Tensor, "batch next_codes codes"]]:
        """Return the logits of the caption's tokens and of the image's tokens.

        Args:
            text: Ids of the caption, filled up with padding ids.
            image: The codes so far in raster order, from none to all of them; a code that completes
                the image is left unread.

        Returns:
            Logits of every text position, and of the image positions up to the first that `image`
            doesn't hold (at most N).
        """
        image = image[:, : self.config.num_image_tokens - 1]
        x = torch.cat([self._embed_text(text), self._embed_image(image, 0)], dim=1)  # (B, S, W)
        x = self._run(x, None)
        length = self.config.text_length
        return self.to_text(x[:, :length]), in_float32(self.to_image, x[:, length:])

    def text_states(self, text: Int[Tensor, "batch length"]) -> Float[Tensor, "batch width length"]:
        """Return the caption's states behind half of the layers, at least one; no start token's.

        The image's tokens read them in the next layer. They are those of `forward`, since no token
        of a caption sees an image.
        """
        x = self._embed_text(text)
        for layer, block in enumerate(self.blocks[: max(1, self.config.layers // 2)]):
            x = block(x, self._mask(layer)[: x.shape[1], : x.shape[1]], None, layer)
        return x[:, 1:].transpose(1, 2)

    def begin(
        self, text: Int[Tensor, "batch length"]
    ) -> tuple[Float[Tensor, "batch codes"], KeyValueCache]:
        """Read captions; return the logits of the first code and the cache."""
        x = self._embed_text(text)
        cache = KeyValueCache(self.config, len(text), x)
        return in_float32(self.to_image, self._run(x, cache)[:, -1]), cache

    def advance(
        self, codes: Int[Tensor, " batch"], cache: KeyValueCache
    ) -> Float[Tensor, "batch codes"]:
        """Read the next code of every image; return the logits of the one after it."""
        place = cache.length - self.config.num_text_states
        states = self._run(self._embed_image(codes[:, None], place), cache)
        return in_float32(self.to_image, states[:, -1])

    def _run(self, x: Tensor, cache: KeyValueCache | None) -> Tensor:
        """Map (B, S, W) to (B, S, W) for S states that follow those in the cache."""
        first = 0 if cache is None else cache.length
        end = first + x.shape[1]
        for layer, block in enumerate(self.blocks):
            x = block(x, self._mask(layer)[first:end, :end], cache, layer)
        if cache is not None:
            cache.length = end
        return self.ln_final(x)

    def _embed_text(self, text: Tensor) -> Tensor:
        """Map (B, T) to (B, 1 + T, W), the start token first."""
        embedded = self.text_embedding(text) + self.text_position.weight
        return torch.cat([self.start.expand(len(text), 1, -1), embedded], dim=1)

    def _embed_image(self, codes: Tensor, first: int) -> Tensor:
        """Map (B, S) to (B, S, W) for codes that begin at position `first` of the grid."""
        place = torch.arange(first, first + codes.shape[1], device=codes.device)
        row, column = place // self.config.grid_size, place % self.config.grid_size
        where = self.row_embedding(row) + self.column_embedding(column)
        return self.image_embedding(codes) + where

    def _mask(self, layer: int) -> Tensor:
        """Return what each state sees in a layer, (states, states)."""
        return self.masks[self._kinds.index(self.patterns[layer])]

    @property
    def _kinds(self) -> list[Pattern]:
        return list(dict.fromkeys(self.patterns))

    def _masks(self) -> Tensor:
        """Build one mask for each pattern in use, (patterns, states, states)."""
        config, states = self.config, self.config.num_states
        masks = [
            attention_mask(
                kind,
                num_text=config.num_text_states,
                grid_size=config.grid_size,
                kernel_size=config.kernel_size,
            )
            for kind in self._kinds
        ]
        return torch.stack([mask[:states, :states] for mask in masks])

    def _initialise(self) -> None:
        """Initialise as GPT does: residual projections get smaller with depth."""
        for name, parameter in self.named_parameters():
            if parameter.ndim > 1 or name == "start":
                adds = name.endswith(("attention.proj.weight", "mlp.2.weight"))
                scale = 1 / math.sqrt(2 * self.config.layers) if adds else 1.0
                nn.init.normal_(parameter, std=INIT_STD * scale)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)


def dalle_loss(
    text_logits: Float[Tensor, "batch length text_ids"],
    image_logits: Float[Tensor, "batch num_codes codes"],
    text: Int[Tensor, "batch length"],
    image: Int[Tensor, "batch num_codes"],
    *,
    text_weight: float = 1 / 8,
) -> Float[Tensor, ""]:
    """Weight the cross-entropy of text by 1/8 and that of the image by 7/8 (section 2.2).

    Args:
        text_logits: Of all text positions, padding too.
        image_logits: Of all image positions.
        text: The caption's ids.
        image: The image's codes.
        text_weight: Share of the text; the image gets the rest.

    Returns:
        In nats per token.
    """
    of_text = F.cross_entropy(text_logits.flatten(0, 1).float(), text.flatten())
    of_image = F.cross_entropy(image_logits.flatten(0, 1).float(), image.flatten())
    return text_weight * of_text + (1 - text_weight) * of_image
