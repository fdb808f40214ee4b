"""GLIDE's networks (Nichol et al. 2021, section 4.1): a U-Net that reads the caption.

The text transformer's last state is added to the embedded timestep, and all of its states are put
before the keys and values of every attention block. State-dict names are those of the released
code. Images are in [-1, 1]; the output is the predicted noise, then (channels 3 to 5) the variance
between its bounds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor, nn

from generators.errors import ArchitectureError
from generators.nn.normalization import LayerNorm
from generators.nn.settings import config_from_flat
from generators.nn.transformer import Transformer
from generators.nn.unet import ContextKV, UNet, UNetConfig, enlarge

EMBEDDING_STD = 0.02
"""Deviation of new embeddings; released weights overwrite them."""


@dataclass(frozen=True, kw_only=True)
class TextConfig:
    """Sizes and switches of the text encoder, under the released code's names."""

    n_vocab: int
    text_ctx: int
    """Number of tokens, padding included."""
    xf_width: int
    xf_layers: int
    xf_heads: int
    xf_final_ln: bool = True
    xf_padding: bool = True
    """Padded positions get a learned embedding of their own."""

    def __post_init__(self) -> None:
        if self.xf_width % self.xf_heads:
            raise ArchitectureError(
                f"xf_width {self.xf_width} is not a multiple of xf_heads {self.xf_heads}."
            )


@dataclass(frozen=True, kw_only=True)
class GlideConfig:
    """A GLIDE network: its U-Net, and its text encoder if it has one.

    `unet.in_channels` counts the image alone; the upsampler and the inpainting networks add theirs.
    """

    unet: UNetConfig
    text: TextConfig | None

    @classmethod
    def from_flat(cls, settings: Mapping[str, Any]) -> GlideConfig:
        """Read the released code's flat settings; `xf_width` 0 or absent means no text.

        Raises:
            ArchitectureError: A setting is unknown or missing.
        """
        names = {field.name for field in fields(TextConfig)}
        text_settings = {k: v for k, v in settings.items() if k in names}
        unet = UNetConfig.from_flat({k: v for k, v in settings.items() if k not in names})
        if not text_settings.get("xf_width"):
            return cls(unet=unet, text=None)
        return cls(unet=unet, text=config_from_flat(TextConfig, text_settings, "a text encoder"))

    def flat(self) -> dict[str, Any]:
        """Return the flat settings that `from_flat` reads back as this configuration."""
        return asdict(self.unet) | ({} if self.text is None else asdict(self.text))


@dataclass(frozen=True, eq=False)
class TextStates:
    """What the U-Net reads of a caption; computed once, used at every timestep."""

    proj: Float[Tensor, "batch embedding"]
    """The last state, projected to the timestep embedding's width."""
    states: Float[Tensor, "batch width length"]
    """All states."""
    kv: ContextKV
    """What each attention block makes of them."""

    @staticmethod
    def cat(parts: list[TextStates]) -> TextStates:
        """Join batches, such as the conditional and the unconditional half."""
        return TextStates(
            torch.cat([part.proj for part in parts]),
            torch.cat([part.states for part in parts]),
            tuple(torch.cat(kv) for kv in zip(*(part.kv for part in parts), strict=True)),
        )

    def select(self, index: Tensor | slice) -> TextStates:
        """Return the states of some captions of the batch."""
        kv = tuple(part[index] for part in self.kv)
        return TextStates(self.proj[index], self.states[index], kv)


class Text2ImUNet(UNet):
    """The base network: noisy image, timestep and caption in, noise and variance out."""

    def __init__(self, config: GlideConfig) -> None:
        unet, text = config.unet, config.text
        super().__init__(
            replace(
                unet,
                in_channels=self.total_in_channels(unet.in_channels),
                context_channels=text.xf_width if text else None,
            )
        )
        self.text = text
        if text is None:
            return
        self.transformer = Transformer(text.xf_width, text.xf_layers, text.xf_heads)
        self.final_ln = LayerNorm(text.xf_width) if text.xf_final_ln else None
        self.token_embedding = nn.Embedding(text.n_vocab, text.xf_width)
        self.positional_embedding = nn.Parameter(torch.empty(text.text_ctx, text.xf_width))
        self.transformer_proj = nn.Linear(text.xf_width, unet.embedding_channels)
        embeddings = [self.token_embedding.weight, self.positional_embedding]
        if text.xf_padding:
            self.padding_embedding = nn.Parameter(torch.empty(text.text_ctx, text.xf_width))
            embeddings.append(self.padding_embedding)
        for embedding in embeddings:
            nn.init.normal_(embedding, std=EMBEDDING_STD)

    @classmethod
    def from_flat(cls, settings: Mapping[str, Any]) -> Text2ImUNet:
        """Build the network from flat settings; see `GlideConfig.from_flat`."""
        return cls(GlideConfig.from_flat(settings))

    @staticmethod
    def total_in_channels(image_channels: int) -> int:
        """Count the channels of the U-Net's input, extra images included."""
        return image_channels

    def encode_text(
        self,
        tokens: Int[Tensor, "batch length"],
        mask: Bool[Tensor, "batch length"] | None = None,
    ) -> TextStates:
        """Run the text transformer.

        Args:
            tokens: Ids, padded to the context's length.
            mask: False on padding; needed where padding has its own embedding.
        """
        x = self.read_text(tokens, mask)
        states = x.transpose(1, 2)  # (B, W, L)
        return TextStates(self.transformer_proj(x[:, -1]), states, self.project_context(states))

    def read_text(
        self,
        tokens: Int[Tensor, "batch length"],
        mask: Bool[Tensor, "batch length"] | None = None,
    ) -> Float[Tensor, "batch length width"]:
        """Return the text transformer's states."""
        text = self.text
        if text is None:
            raise ArchitectureError("This network has no text encoder: xf_width is 0.")
        if tokens.shape[1] != text.text_ctx:
            raise ArchitectureError(
                f"The text encoder reads {text.text_ctx} tokens, got {tokens.shape[1]}."
            )
        x = self.token_embedding(tokens) + self.positional_embedding  # (B, L, W)
        if text.xf_padding:
            if mask is None:
                raise ArchitectureError(
                    "This network needs the mask of the tokens: xf_padding is set."
                )
            x = torch.where(mask[..., None], x, self.padding_embedding)
        x = self.transformer(x)
        return x if self.final_ln is None else self.final_ln(x)

    def forward(  # type: ignore[override]
        self,
        x: Float[Tensor, "batch channels height width"],
        t: Shaped[Tensor, " batch"],
        tokens: Int[Tensor, "batch length"] | None = None,
        mask: Bool[Tensor, "batch length"] | None = None,
        *,
        text: TextStates | None = None,
        y: Int[Tensor, " batch"] | None = None,
    ) -> Float[Tensor, "batch out_channels height width"]:
        """Evaluate the network on captions given as tokens or as `encode_text` states."""
        if text is None and tokens is not None:
            text = self.encode_text(tokens, mask)
        if (text is None) != (self.text is None):
            raise ArchitectureError(
                "A caption is required by a text-conditional network and accepted by no other."
            )
        if text is None:
            return super().forward(x, t, y)
        return super().forward(x, t, y, extra_emb=text.proj, context_kv=text.kv)


class SuperResText2ImUNet(Text2ImUNet):
    """The upsampler: also sees the low-resolution image, enlarged bilinearly."""

    @staticmethod
    def total_in_channels(image_channels: int) -> int:
        """Count noisy image and low-resolution image."""
        return 2 * image_channels

    def forward(  # type: ignore[override]
        self,
        x: Float[Tensor, "batch channels height width"],
        t: Shaped[Tensor, " batch"],
        low_res: Float[Tensor, "batch channels low_height low_width"],
        tokens: Int[Tensor, "batch length"] | None = None,
        mask: Bool[Tensor, "batch length"] | None = None,
        *,
        text: TextStates | None = None,
        y: Int[Tensor, " batch"] | None = None,
    ) -> Float[Tensor, "batch out_channels height width"]:
        """Evaluate the network; `low_res` is in [-1, 1]."""
        x = torch.cat([x, enlarge(low_res, x)], dim=1)
        return super().forward(x, t, tokens, mask, text=text, y=y)


class InpaintText2ImUNet(Text2ImUNet):
    """The base network that also sees the pixels to keep and where they are."""

    @staticmethod
    def total_in_channels(image_channels: int) -> int:
        """Count noisy image, masked image and mask."""
        return 2 * image_channels + 1

    def forward(  # type: ignore[override]
        self,
        x: Float[Tensor, "batch channels height width"],
        t: Shaped[Tensor, " batch"],
        tokens: Int[Tensor, "batch length"] | None = None,
        mask: Bool[Tensor, "batch length"] | None = None,
        *,
        inpaint_image: Float[Tensor, "batch channels height width"] | None = None,
        inpaint_mask: Float[Tensor, "batch 1 height width"] | None = None,
        text: TextStates | None = None,
        y: Int[Tensor, " batch"] | None = None,
    ) -> Float[Tensor, "batch out_channels height width"]:
        """Evaluate the network; the mask is 1 on pixels to keep. Without a mask, none are kept."""
        x = torch.cat([x, *kept_pixels(x, inpaint_image, inpaint_mask)], dim=1)
        return super().forward(x, t, tokens, mask, text=text, y=y)


class SuperResInpaintText2ImUNet(Text2ImUNet):
    """The upsampler that also sees the pixels to keep."""

    @staticmethod
    def total_in_channels(image_channels: int) -> int:
        """Count noisy image, masked image, mask and low-resolution image."""
        return 3 * image_channels + 1

    def forward(  # type: ignore[override]
        self,
        x: Float[Tensor, "batch channels height width"],
        t: Shaped[Tensor, " batch"],
        low_res: Float[Tensor, "batch channels low_height low_width"],
        tokens: Int[Tensor, "batch length"] | None = None,
        mask: Bool[Tensor, "batch length"] | None = None,
        *,
        inpaint_image: Float[Tensor, "batch channels height width"] | None = None,
        inpaint_mask: Float[Tensor, "batch 1 height width"] | None = None,
        text: TextStates | None = None,
        y: Int[Tensor, " batch"] | None = None,
    ) -> Float[Tensor, "batch out_channels height width"]:
        """Evaluate the network; see `InpaintText2ImUNet` and `SuperResText2ImUNet`."""
        kept = kept_pixels(x, inpaint_image, inpaint_mask)
        x = torch.cat([x, *kept, enlarge(low_res, x)], dim=1)
        return super().forward(x, t, tokens, mask, text=text, y=y)


def kept_pixels(like: Tensor, image: Tensor | None, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return the masked image and the mask; zeros where none is given."""
    if image is None:
        image = torch.zeros_like(like)
    if mask is None:
        mask = torch.zeros_like(like[:, :1])
    return image * mask, mask
