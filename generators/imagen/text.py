"""Imagen's text encoder: the encoder half of a frozen T5, run through transformers.

States of padding are set to zero, as all states are where the text is left out for guidance; so
padding says what no text says, and the networks need no mask.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from safetensors import SafetensorError
from torch import Tensor
from transformers import T5Config
from transformers.models.t5.modeling_t5 import T5EncoderModel, T5Stack

from evalkit.core.errors import MissingWeightsError, WeightsError
from generators.nn.settings import config_from_flat
from generators.tokenizer import BytePairTokenizer, Tokens, tiny_tokenizer
from generators.weights.hub import folder_sha256, hub_folder
from generators.weights.zoo import ZOO, zoo_weights

T5_NAME = "imagen-tiny-t5"
"""The text encoder of the tiny models, in the zoo."""
TINY_LENGTH = 24
"""Tokens of the tiny models, the end token among them."""
NUM_SENTINELS = 16
"""Tokens that replace a masked span in pre-training; they follow the vocabulary and the start."""

Tokenize = Callable[[Sequence[str]], Tokens]


@dataclass(frozen=True, eq=False)
class TextReading:
    """The frozen encoder's states of a batch of captions."""

    states: Float[Tensor, "batch length width"]
    """Zero on padding."""
    truncated: tuple[bool, ...]


class FrozenT5:
    """A T5 encoder that is read and never trained; on purpose no module of the networks it serves.

    Args:
        encoder: From transformers.
        tokenize: Captions to ids with the end token, and the mask of both.
        name: Of its weights.
        sha256: Of the same.
    """

    def __init__(
        self, encoder: T5EncoderModel | T5Stack, tokenize: Tokenize, *, name: str, sha256: str
    ) -> None:
        self.encoder = encoder.eval().requires_grad_(False)
        self.tokenize = tokenize
        self.name = name
        self.sha256 = sha256
        self.width = int(encoder.config.d_model)

    @classmethod
    def from_zoo(cls, path: Path | None = None) -> FrozenT5:
        """Load `imagen-tiny-t5`, or a file of `evalkit train` in its place.

        Raises:
            MissingWeightsError: The file does not exist.
        """
        file = path or ZOO / f"{T5_NAME}.safetensors"
        if not file.is_file():
            raise MissingWeightsError(
                f"No text encoder at {file}. Train it with: evalkit train {T5_NAME}, then copy its "
                "weights.safetensors there, or name the file as objective.text_encoder in the "
                "recipe."
            )
        weights = zoo_weights(T5_NAME, file)
        encoder = weights.network(T5Stack, T5_NAME)
        return cls(encoder, tiny_tokens, name=T5_NAME, sha256=weights.sha256)

    @classmethod
    def untrained(cls, model: Mapping[str, Any], seed: int) -> FrozenT5:
        """Build an encoder of the tiny size with random weights."""
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            encoder = build_encoder(model)
        return cls(encoder, tiny_tokens, name=T5_NAME, sha256="random")

    @classmethod
    def from_pretrained(cls, name: str, *, length: int = 128) -> FrozenT5:
        """Load a published T5 by its name or folder, such as the paper's `google/t5-v1_1-xxl`.

        Args:
            name: On the hub, or a folder in its format.
            length: Tokens of a caption, the end token among them.

        Raises:
            MissingWeightsError: It is neither cached nor reachable.
            WeightsError: The folder holds something else.
        """
        from transformers import AutoTokenizer

        given = Path(name) if Path(name).is_dir() else None
        folder = hub_folder("", name, given, instead="imagen:tiny-untrained")
        try:
            encoder = T5EncoderModel.from_pretrained(
                folder, local_files_only=True, use_safetensors=True
            )
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        except (OSError, ValueError, RuntimeError, SafetensorError) as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise WeightsError(f"{folder} holds no T5: {reason.rstrip('.')}.") from error

        def tokenize(captions: Sequence[str]) -> Tokens:
            batch = tokenizer(
                list(captions),
                padding="max_length",
                max_length=length,
                truncation=True,
                return_tensors="pt",
            )
            whole = tokenizer(list(captions))["input_ids"]
            cut = tuple(len(ids) > length for ids in whole)
            return Tokens(batch["input_ids"], batch["attention_mask"].bool(), cut)

        return cls(encoder, tokenize, name=name, sha256=folder_sha256(folder))

    def to(self, device: torch.device | str) -> FrozenT5:
        """Move the network to a device; return self."""
        self.encoder.to(device)
        return self

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return next(self.encoder.parameters()).device

    @torch.no_grad()
    def read(self, captions: Sequence[str]) -> TextReading:
        """Run the encoder, once for each distinct caption, in float32."""
        unique = list(dict.fromkeys(captions))
        tokens = self.tokenize(unique)
        ids, mask = tokens.ids.to(self.device), tokens.mask.to(self.device)
        with torch.autocast(self.device.type, enabled=False):
            states = self._states(ids, mask)
        row = {caption: index for index, caption in enumerate(unique)}
        rows = [row[caption] for caption in captions]
        index = torch.tensor(rows, dtype=torch.long, device=self.device)
        return TextReading(states[index], tuple(tokens.truncated[i] for i in rows))

    def _states(
        self, ids: Int[Tensor, "batch length"], mask: Bool[Tensor, "batch length"]
    ) -> Float[Tensor, "batch length width"]:
        output = self.encoder(input_ids=ids, attention_mask=mask.long())
        return output.last_hidden_state * mask[..., None]


def build_encoder(model: Mapping[str, Any]) -> T5Stack:
    """Build the encoder of the tiny size from the settings of `t5_config`."""
    return T5EncoderModel(t5_config(model)).get_encoder()


@dataclass(frozen=True, kw_only=True)
class _T5Sizes:
    """The sizes of a T5 that a recipe sets."""

    d_model: int
    d_kv: int
    d_ff: int
    num_heads: int
    num_layers: int
    num_decoder_layers: int


def t5_config(model: Mapping[str, Any]) -> T5Config:
    """Configure a T5 of version 1.1 (gated GELU) over the tiny vocabulary.

    Args:
        model: `d_model`, `d_kv`, `d_ff`, `num_heads`, `num_layers`, `num_decoder_layers`.

    Raises:
        ArchitectureError: A setting is unknown or missing, or not a positive whole number.
    """
    sizes = config_from_flat(_T5Sizes, model, "a T5")
    vocabulary = tiny_tokenizer().num_tokens
    settings: dict[str, Any] = {
        **asdict(sizes),
        "vocab_size": vocabulary + 1 + NUM_SENTINELS,
        "pad_token_id": vocabulary,
        "decoder_start_token_id": vocabulary,
        "eos_token_id": tiny_tokenizer().end_id,
        "feed_forward_proj": "gated-gelu",
        "tie_word_embeddings": False,
        "dropout_rate": 0.0,
        "relative_attention_num_buckets": 16,
        "relative_attention_max_distance": TINY_LENGTH,
        "use_cache": False,
    }
    return T5Config(**settings)


def first_sentinel(tokenizer: BytePairTokenizer) -> int:
    """Return the id of the first sentinel; the others follow."""
    return tokenizer.num_tokens + 1


def tiny_tokens(captions: Sequence[str]) -> Tokens:
    """Encode captions with the tiny vocabulary, each with its end token inside the mask."""
    tokens = tiny_tokenizer().pad(captions, TINY_LENGTH - 1)
    ends = torch.full((len(captions), 1), tiny_tokenizer().end_id)
    first = torch.ones(len(captions), 1, dtype=torch.bool)
    # the tokenizer pads with the end token, so one more True is the end
    return Tokens(
        torch.cat([tokens.ids, ends], dim=1), torch.cat([first, tokens.mask], dim=1),
        tokens.truncated,
    )  # fmt: skip
