"""What each network needs of its training data, and what the data decide about it: one row each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Needs:
    """What a network's training needs of its data."""

    captions: bool = False
    """Whether it reads captions."""
    vocabulary: str = ""
    """The setting that counts the tokens; empty: captions are read by a frozen network, or not."""
    tokens: str = ""
    """The weights that have a row for each token."""
    classes: str = ""
    """The setting that counts the classes; empty: it learns none."""
    of_classes: tuple[str, ...] = ()
    """The weights that have a row for each class."""
    together: bool = False
    """Whether the loss compares the images of a batch, so that the batch can't be split."""
    start: bool = False
    """Whether a part of it is left as it is, so that it has to start from trained weights."""
    parts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Parts that `freeze` names, by what the names of their parameters begin with."""

    def learns_classes(self, model: Mapping[str, Any]) -> bool:
        """Return whether a network of these settings learns classes."""
        return bool(self.classes) and self.classes in model

    def reads_captions(self, model: Mapping[str, Any]) -> bool:
        """Return whether a network of these settings reads captions."""
        return self.captions or bool(self.vocabulary and model.get(self.vocabulary))


GLIDE_TEXT = (
    "transformer.", "final_ln.", "token_embedding.", "positional_embedding", "padding_embedding",
    "transformer_proj.",
)  # fmt: skip
_GLIDE_PARTS = {"text": GLIDE_TEXT}
_TOKENS = "token_embedding.weight"

NEEDS: Mapping[str, Needs] = {
    "glide-base": Needs(captions=True, vocabulary="n_vocab", tokens=_TOKENS, parts=_GLIDE_PARTS),
    "glide-upsampler": Needs(vocabulary="n_vocab", tokens=_TOKENS, parts=_GLIDE_PARTS),
    "clip": Needs(captions=True, vocabulary="vocab_size", tokens=_TOKENS, together=True),
    "noised-clip": Needs(captions=True, vocabulary="vocab_size", tokens=_TOKENS, together=True),
    "dalle-dvae": Needs(together=True),
    "dalle-dvae-decoding": Needs(start=True),
    "dalle-transformer": Needs(captions=True),
    "unclip-prior": Needs(captions=True),
    "unclip-prior-ar": Needs(captions=True),
    "unclip-decoder": Needs(captions=True),
    "unclip-upsampler": Needs(),
    "imagen-t5": Needs(captions=True, together=True),
    "imagen-t5-taught": Needs(captions=True, together=True),
    "imagen-base": Needs(captions=True),
    "imagen-upsampler": Needs(captions=True),
    "ddpm": Needs(classes="num_classes", of_classes=("label_emb.weight",)),
    "noisy-classifier": Needs(
        classes="out_channels", of_classes=("out.2.c_proj.weight", "out.2.c_proj.bias")
    ),
}
"""By the name in a recipe's `network`."""


def needs_of(network: str) -> Needs:
    """Return the needs of a network; those of another package's are unknown, and taken for none."""
    return NEEDS.get(network, Needs())
