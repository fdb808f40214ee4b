"""unCLIP's decoder (Ramesh et al. 2022, section 2.1): GLIDE conditioned on an image embedding too.

The embedding is projected and added to the embedded timestep, and projected to four more tokens
that follow the caption's states. Either condition can be left out: the embedding's place is
then taken by a learned one, the caption's by the empty caption. Embeddings are CLIP's times
`embedding_scale`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from generators.errors import ArchitectureError
from generators.glide.model import GlideConfig, Text2ImUNet, TextStates
from generators.glide.pipeline import Captions
from generators.tokenizer import BytePairTokenizer


@dataclass(frozen=True, kw_only=True)
class DecoderConfig:
    """A GLIDE network and the sizes of its conditioning on image embeddings."""

    glide: GlideConfig
    embed_dim: int
    """Width of CLIP's space."""
    embedding_tokens: int = 4
    """Tokens that the embedding is projected to."""

    @classmethod
    def from_flat(cls, settings: Mapping[str, Any]) -> DecoderConfig:
        """Read GLIDE's flat settings and `embed_dim`, `embedding_tokens`.

        Raises:
            ArchitectureError: A setting is unknown or missing, or there is no text encoder.
        """
        own = {k: settings[k] for k in ("embed_dim", "embedding_tokens") if k in settings}
        if "embed_dim" not in own:
            raise ArchitectureError("Missing settings of a decoder: embed_dim.")
        glide = GlideConfig.from_flat({k: v for k, v in settings.items() if k not in own})
        return cls(glide=glide, **own)

    def __post_init__(self) -> None:
        if self.glide.text is None:
            raise ArchitectureError("unCLIP's decoder reads captions, so xf_width must not be 0.")


class UnclipDecoder(Text2ImUNet):
    """Noisy image, timestep, caption and image embedding in, noise and variance out."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__(config.glide)
        text = config.glide.text
        assert text is not None
        self.num_tokens = config.embedding_tokens
        self.null_embedding = nn.Parameter(torch.zeros(config.embed_dim))
        self.embedding_to_timestep = nn.Linear(
            config.embed_dim, config.glide.unet.embedding_channels
        )
        self.embedding_to_tokens = nn.Linear(config.embed_dim, self.num_tokens * text.xf_width)

    @classmethod
    def from_flat(cls, settings: Mapping[str, Any]) -> UnclipDecoder:
        """Build the network from flat settings; see `DecoderConfig.from_flat`."""
        return cls(DecoderConfig.from_flat(settings))

    def condition(
        self,
        tokens: Int[Tensor, "batch length"],
        mask: Bool[Tensor, "batch length"],
        embedding: Float[Tensor, "batch embed_dim"],
        given: Bool[Tensor, " batch"],
    ) -> TextStates:
        """Return the text states that the U-Net uses at every timestep.

        Args:
            tokens: The caption's, padded.
            mask: False on padding.
            embedding: Scaled image embeddings.
            given: False where the embedding is left out.
        """
        z = torch.where(given[:, None], embedding, self.null_embedding)
        states = self.read_text(tokens, mask)  # (B, L, W)
        extra = self.embedding_to_tokens(z).unflatten(1, (self.num_tokens, -1))  # (B, 4, W)
        context = torch.cat([states, extra.to(states.dtype)], dim=1).transpose(
            1, 2
        )  # (B, W, L + 4)
        proj = self.transformer_proj(states[:, -1]) + self.embedding_to_timestep(z)
        return TextStates(proj, context, self.project_context(context))


@torch.no_grad()
def decoder_captions(
    network: UnclipDecoder,
    tokenizer: BytePairTokenizer,
    captions: Sequence[str],
    embedding: Float[Tensor, "batch embed_dim"] | None,
) -> Captions:
    """Encode both halves of guidance: caption and embedding, and neither.

    Args:
        network: The decoder.
        tokenizer: Of its captions.
        captions: The batch's; empty ones for images from an embedding alone.
        embedding: Scaled; None leaves it out.
    """
    assert network.text is not None
    tokens = tokenizer.pad(["", *captions], network.text.text_ctx)
    device = network.null_embedding.device
    ids, mask = tokens.ids.to(device), tokens.mask.to(device)
    z = network.null_embedding.expand(len(captions), -1) if embedding is None else embedding
    given = torch.full((len(captions),), embedding is not None, device=device)
    return Captions(
        text=network.condition(ids[1:], mask[1:], z, given),
        empty=network.condition(ids[:1], mask[:1], z[:1], torch.zeros_like(given[:1])),
        truncated=tuple(tokens.truncated[1:]),
    )
