"""CLIP's two towers and its loss (Radford et al. 2021, section 2.4 and figure 3).

A vision transformer with a class token, and a causal text transformer read at the end token. The
state-dict names are open_clip's, so its weights load. With `num_timesteps` it is GLIDE's *noised*
CLIP: the image tower also reads the timestep of its noisy image.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from generators.errors import ArchitectureError
from generators.nn.embeddings import cos_sin_embedding
from generators.nn.normalization import LayerNorm
from generators.nn.settings import config_from_flat

MAX_LOGIT_SCALE = 100.0
"""Cosines are multiplied by at most this (section 2.5); `clip_loss` enforces it."""


@dataclass(frozen=True, kw_only=True)
class ClipConfig:
    """Sizes of the two towers."""

    image_size: int
    """Edge of the images in px, a multiple of the patches'."""
    patch_size: int
    vision_width: int
    vision_layers: int
    vision_heads: int
    vocab_size: int
    context_length: int
    text_width: int
    text_layers: int
    text_heads: int
    embed_dim: int
    """Width of the shared space."""
    num_timesteps: int | None = None
    """For a noised CLIP, the number of timesteps it knows."""
    mean: tuple[float, float, float] = (0.48145466, 0.4578275, 0.40821073)
    """Of the pixels in [0, 1]; subtracted."""
    std: tuple[float, float, float] = (0.26862954, 0.26130258, 0.27577711)
    """Of the pixels in [0, 1]; divided by."""

    @classmethod
    def from_flat(cls, settings: Mapping[str, Any]) -> ClipConfig:
        """Read settings as JSON or TOML have them.

        Raises:
            ArchitectureError: A setting is unknown or missing.
        """
        return config_from_flat(cls, settings, "CLIP")

    def __post_init__(self) -> None:
        if self.image_size % self.patch_size:
            raise ArchitectureError(
                f"image_size {self.image_size} is not a multiple of patch_size {self.patch_size}."
            )
        for tower in ("vision", "text"):
            width, heads = getattr(self, f"{tower}_width"), getattr(self, f"{tower}_heads")
            if width % heads:
                raise ArchitectureError(
                    f"{tower}_width {width} is not a multiple of {tower}_heads {heads}."
                )


class QuickGELU(nn.Module):
    """x sigmoid(1.702 x), as OpenAI's weights were trained; not interchangeable with GELU."""

    def forward(self, x: Tensor) -> Tensor:
        """Apply the activation; the shape stays."""
        return x * torch.sigmoid(1.702 * x)


class Attention(nn.Module):
    """Multi-head self-attention under the parameter names of `nn.MultiheadAttention`."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)

    def forward(self, x: Tensor, *, causal: bool) -> Tensor:
        """Map (B, L, W) to (B, L, W)."""
        batch, length, width = x.shape
        projected = F.linear(x, self.in_proj_weight, self.in_proj_bias)  # (B, L, 3W)
        heads = projected.view(batch, length, 3, self.heads, width // self.heads)
        q, k, v = heads.permute(2, 0, 3, 1, 4)  # (B, heads, L, W / heads)
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=causal)
        return self.out_proj(attended.transpose(1, 2).flatten(2))


class MLP(nn.Module):
    """Two linear layers with QuickGELU between."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.c_fc = nn.Linear(width, 4 * width)
        self.gelu = QuickGELU()
        self.c_proj = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, L, W) to (B, L, W)."""
        return self.c_proj(self.gelu(self.c_fc(x)))


class ResidualAttentionBlock(nn.Module):
    """Attention, then the MLP, each behind a layer norm and beside a skip."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.ln_1 = LayerNorm(width)
        self.attn = Attention(width, heads)
        self.ln_2 = LayerNorm(width)
        self.mlp = MLP(width)

    def forward(self, x: Tensor, *, causal: bool) -> Tensor:
        """Map (B, L, W) to (B, L, W)."""
        x = x + self.attn(self.ln_1(x), causal=causal)
        return x + self.mlp(self.ln_2(x))


class Transformer(nn.Module):
    """A stack of blocks, causal or not."""

    def __init__(self, width: int, layers: int, heads: int, *, causal: bool) -> None:
        super().__init__()
        self.causal = causal
        blocks = [ResidualAttentionBlock(width, heads) for _ in range(layers)]
        for block in blocks:
            _initialise(block, width, layers)
        self.resblocks = nn.ModuleList(blocks)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, L, W) to (B, L, W)."""
        for block in self.resblocks:
            x = block(x, causal=self.causal)
        return x


class VisionTransformer(nn.Module):
    """The image tower: patches and a class token, whose last state is projected."""

    def __init__(self, config: ClipConfig) -> None:
        super().__init__()
        width, patch = config.vision_width, config.patch_size
        num_patches = (config.image_size // patch) ** 2
        self.conv1 = nn.Conv2d(3, width, patch, stride=patch, bias=False)
        self.class_embedding = nn.Parameter(torch.randn(width) * width**-0.5)
        self.positional_embedding = nn.Parameter(torch.randn(num_patches + 1, width) * width**-0.5)
        if config.num_timesteps is not None:
            steps = torch.arange(config.num_timesteps)
            self.time_embedding = nn.Parameter(cos_sin_embedding(steps, width) * width**-0.5)
        self.ln_pre = LayerNorm(width)
        self.transformer = Transformer(
            width, config.vision_layers, config.vision_heads, causal=False
        )
        self.ln_post = LayerNorm(width)
        self.proj = nn.Parameter(torch.randn(width, config.embed_dim) * width**-0.5)

    def forward(self, x: Tensor, t: Tensor | None = None) -> Tensor:
        """Map normalised (B, 3, S, S) to (B, D)."""
        patches = self.conv1(x).flatten(2).transpose(1, 2)  # (B, P, W)
        class_token = self.class_embedding.to(patches.dtype).expand(len(x), 1, -1)
        tokens = torch.cat([class_token, patches], dim=1)  # (B, 1 + P, W)
        tokens = tokens + self.positional_embedding.to(patches.dtype)
        if t is not None:
            tokens = tokens + self.time_embedding[t][:, None].to(patches.dtype)
        tokens = self.transformer(self.ln_pre(tokens))
        return self.ln_post(tokens[:, 0]) @ self.proj


class Clip(nn.Module):
    """Both towers; embeddings have length 1, so that a product of two is a cosine."""

    def __init__(self, config: ClipConfig) -> None:
        super().__init__()
        self.config = config
        self.visual = VisionTransformer(config)
        self.transformer = Transformer(
            config.text_width, config.text_layers, config.text_heads, causal=True
        )
        self.token_embedding = nn.Embedding(config.vocab_size, config.text_width)
        self.positional_embedding = nn.Parameter(
            torch.randn(config.context_length, config.text_width) * 0.01
        )
        self.ln_final = LayerNorm(config.text_width)
        self.text_projection = nn.Parameter(
            torch.randn(config.text_width, config.embed_dim) * config.text_width**-0.5
        )
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))
        nn.init.normal_(self.token_embedding.weight, std=0.02)

    @classmethod
    def from_flat(cls, settings: Mapping[str, Any]) -> Clip:
        """Build the network from flat settings; see `ClipConfig.from_flat`."""
        return cls(ClipConfig.from_flat(settings))

    def encode_image(
        self,
        images: Float[Tensor, "batch 3 size size"],
        t: Int[Tensor, " batch"] | None = None,
    ) -> Float[Tensor, "batch embed"]:
        """Embed images.

        Args:
            images: In [-1, 1] (not yet normalised), `image_size` px; noisy ones for a noised CLIP.
            t: Timesteps, for a noised CLIP and only there.
        """
        size = self.config.image_size
        if images.shape[-2:] != (size, size):
            raise ArchitectureError(
                f"This CLIP takes images of {size} x {size} px, got {tuple(images.shape[-2:])}."
            )
        if (t is None) != (self.config.num_timesteps is None):
            raise ArchitectureError(
                "Timesteps are required by a noised CLIP and accepted by no other."
            )
        return F.normalize(self.visual(self._normalised(images), t).float(), dim=-1)

    def encode_text(
        self, tokens: Int[Tensor, "batch length"], mask: Bool[Tensor, "batch length"]
    ) -> Float[Tensor, "batch embed"]:
        """Embed captions.

        Args:
            tokens: Ids, the end token behind the last word and as padding.
            mask: True up to the last word; the position behind it is read.
        """
        return self.read_text(tokens, mask)[1]

    def read_text(
        self, tokens: Int[Tensor, "batch length"], mask: Bool[Tensor, "batch length"]
    ) -> tuple[Float[Tensor, "batch length width"], Float[Tensor, "batch embed"]]:
        """Return the text tower's last states, which unCLIP's prior reads, and the embeddings."""
        length = tokens.shape[1]
        x = self.token_embedding(tokens) + self.positional_embedding[:length]  # (B, L, W)
        states = self.ln_final(self.transformer(x))
        end = mask.sum(dim=1).clamp(max=length - 1)
        pooled = states[torch.arange(len(x), device=x.device), end]  # (B, W)
        return states, F.normalize((pooled @ self.text_projection).float(), dim=-1)

    def _normalised(self, images: Tensor) -> Tensor:
        mean = images.new_tensor(self.config.mean).view(3, 1, 1)
        std = images.new_tensor(self.config.std).view(3, 1, 1)
        return ((images + 1) / 2 - mean) / std


def clip_loss(
    image_embeddings: Float[Tensor, "batch embed"],
    text_embeddings: Float[Tensor, "batch embed"],
    log_scale: Float[Tensor, ""],
    duplicates: Sequence[int] | Int[Tensor, " batch"] | None = None,
    false_texts: Float[Tensor, "batch false embed"] | None = None,
    false_mask: Bool[Tensor, "batch false"] | None = None,
) -> Float[Tensor, ""]:
    """Compute the symmetric contrastive loss: image to caption and caption to image.

    Args:
        image_embeddings: Of length 1.
        text_embeddings: Of length 1, in the images' order.
        log_scale: The model's `logit_scale`; its exponential is capped at 100.
        duplicates: A number for each pair; pairs of the same number (equal captions) do not count
            as wrong answers of each other.
        false_texts: Embeddings of further wrong answers for each image, of length 1.
        false_mask: Which of them exist; None: all.

    Returns:
        Mean over both directions, in nats.
    """
    scale = log_scale.exp().clamp(max=MAX_LOGIT_SCALE)
    logits = scale * image_embeddings @ text_embeddings.t()  # (images, texts)
    right = torch.arange(len(logits), device=logits.device)
    if duplicates is not None:
        group = torch.as_tensor(duplicates, device=logits.device)
        same = group[:, None] == group[None]
        same.fill_diagonal_(False)
        logits = logits.masked_fill(same, float("-inf"))
    answers = logits
    if false_texts is not None:
        false = scale * torch.einsum("be,bfe->bf", image_embeddings, false_texts)
        if false_mask is not None:
            false = false.masked_fill(~false_mask, float("-inf"))
        answers = torch.cat([logits, false], dim=1)
    return (F.cross_entropy(answers, right) + F.cross_entropy(logits.t(), right)) / 2


def _initialise(block: ResidualAttentionBlock, width: int, layers: int) -> None:
    """Initialise as CLIP does: residual projections get smaller with depth."""
    residual_std = width**-0.5 * (2 * layers) ** -0.5
    nn.init.normal_(block.attn.in_proj_weight, std=width**-0.5)
    nn.init.normal_(block.attn.out_proj.weight, std=residual_std)
    nn.init.normal_(block.mlp.c_fc.weight, std=(2 * width) ** -0.5)
    nn.init.normal_(block.mlp.c_proj.weight, std=residual_std)
    nn.init.zeros_(block.attn.out_proj.bias)
