"""Byte-level byte-pair encoding (GPT-2's), as GLIDE uses it: lower case, fixed length, a mask.

A text is cut into words, each word into bytes, each byte written as one printable character; then
pairs are merged in the order of their rank. No token is unknown, so decoding is exact up to
case. There are four vocabularies: the tiny models', GPT-2's, CLIP's, and any that is learned from
captions; weights state theirs in one text (`BytePairTokenizer.stated`).
"""

from __future__ import annotations

import functools
import gzip
import importlib.util
import itertools
import json
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import regex
import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from evalkit.core.errors import WeightsError
from generators.weights.published import locate
from generators.weights.zoo import ZOO, ZooWeights

END_OF_TEXT = "<|endoftext|>"
_MOST_KNOWN_WORDS = 50_000
TINY, GPT2, CLIP = "", "gpt2", "clip"
"""What weights state of a vocabulary that is not their own."""
CLIP_START, CLIP_END = "<start_of_text>", "<end_of_text>"
CLIP_MERGES = 49_152 - 256 - 2
_END_OF_WORD = "</w>"
CLIP_WORDS = regex.compile(r"'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+")
WORDS = regex.compile(r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+")


@dataclass(frozen=True, eq=False)
class Tokens:
    """A batch of tokenised captions."""

    ids: Int64[Tensor, "batch length"]
    mask: Bool[Tensor, "batch length"]
    """False on padding."""
    truncated: tuple[bool, ...]
    """Which captions were longer than the context and lost their end."""


class BytePairTokenizer:
    """Text to ids and back.

    Args:
        encoder: Id of each token; holds `<|endoftext|>`, which pads.
        merges: Pairs of tokens, the first to be merged first.
        stated: What weights state of it; None: its merges, from which its ids follow.
    """

    end_of_text = END_OF_TEXT
    words = WORDS
    end_of_word = ""
    """Ends the last part of each word."""

    def __init__(
        self,
        encoder: Mapping[str, int],
        merges: Sequence[tuple[str, str]],
        *,
        stated: str | None = None,
    ) -> None:
        if self.end_of_text not in encoder:
            raise WeightsError(
                f"The vocabulary has no {self.end_of_text}, expected one in GPT-2's format."
            )
        self.stated = json.dumps([*map(list, merges)]) if stated is None else stated
        self.encoder = dict(encoder)
        self.decoder = {token_id: token for token, token_id in self.encoder.items()}
        self.merges = tuple(merges)
        self.ranks = {pair: rank for rank, pair in enumerate(self.merges)}
        self.end_id = self.encoder[self.end_of_text]
        self._known_words: dict[str, tuple[int, ...]] = {}

    @classmethod
    def from_files(
        cls, encoder_path: Path, merges_path: Path, *, stated: str | None = None
    ) -> BytePairTokenizer:
        """Read `encoder.json` and `vocab.bpe`, plain or `.gz`.

        Raises:
            WeightsError: A file is not in the format of its name.
        """
        try:
            encoder = json.loads(_read_text(encoder_path))
            lines = _read_text(merges_path).split("\n")
            merges = [_pair(line) for line in lines if line and not line.startswith("#version")]
            if not isinstance(encoder, dict) or not all(type(i) is int for i in encoder.values()):
                raise ValueError(f"{encoder_path.name} has no number for each token")
        except (ValueError, EOFError, RecursionError, zlib.error, gzip.BadGzipFile) as error:
            raise WeightsError(
                f"Cannot read a byte-pair vocabulary from {encoder_path} and {merges_path}: "
                f"{error}."
            ) from None
        return cls(encoder, merges, stated=stated)

    @property
    def num_tokens(self) -> int:
        """Size of the vocabulary, the end token included."""
        return len(self.encoder)

    def encode(self, text: str, keeps: Callable[[], bool] | None = None) -> list[int]:
        """Encode a text, lowercased, without padding.

        Args:
            text: Any text.
            keeps: Called for every possible merge at every step; False skips the merge. This is
                byte-pair dropout (Provilkov et al. 2019), which splits a word in several ways.
        """
        ids: list[int] = []
        for word in self.words.findall(text.lower()):
            ids += self._merge_word(word) if keeps is None else self._merge(word, keeps)
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """Decode ids to lowercase text; broken UTF-8 becomes replacement characters."""
        characters = "".join(self.decoder[int(i)] for i in ids if int(i) != self.end_id)
        if self.end_of_word:
            characters = characters.replace(self.end_of_word, _CHARACTERS[ord(" ")]).rstrip(
                "\u0120"
            )
        return bytes(_BYTES[c] for c in characters).decode("utf-8", errors="replace")

    def pad(self, captions: Sequence[str], length: int) -> Tokens:
        """Encode captions to one length; longer ones are cut and marked as truncated."""
        encoded = [self.encode(caption) for caption in captions]
        ids = torch.full((len(captions), length), self.end_id, dtype=torch.long)
        mask = torch.zeros((len(captions), length), dtype=torch.bool)
        for row, tokens in enumerate(encoded):
            kept = tokens[:length]
            ids[row, : len(kept)] = torch.tensor(kept, dtype=torch.long)
            mask[row, : len(kept)] = True
        return Tokens(ids, mask, tuple(len(tokens) > length for tokens in encoded))

    def _merge_word(self, word: str) -> tuple[int, ...]:
        known = self._known_words.get(word)
        if known is None:
            if len(self._known_words) >= _MOST_KNOWN_WORDS:
                self._known_words.clear()
            known = self._known_words[word] = self._merge(word, lambda: True)
        return known

    def __getstate__(self) -> dict[str, Any]:
        """Pickle everything but the words met so far."""
        return {**self.__dict__, "_known_words": {}}

    def _merge(self, word: str, keeps: Callable[[], bool]) -> tuple[int, ...]:
        parts = [_CHARACTERS[byte] for byte in word.encode("utf-8")]
        parts[-1] += self.end_of_word
        while pairs := [p for p in itertools.pairwise(parts) if p in self.ranks and keeps()]:
            parts = _merge(parts, min(pairs, key=self.ranks.__getitem__))
        return tuple(self.encoder[part] for part in parts)


@functools.cache
def tiny_tokenizer() -> BytePairTokenizer:
    """Return the tokenizer of the tiny models; its merges were learned from captions of shapes."""
    files = (ZOO / "vocabulary.json", ZOO / "vocabulary.bpe")
    return BytePairTokenizer.from_files(*files, stated=TINY)


class ClipTokenizer(BytePairTokenizer):
    """CLIP's byte pairs (Radford et al. 2021): a mark ends each word, spaces don't count."""

    end_of_text = CLIP_END
    words = CLIP_WORDS
    end_of_word = _END_OF_WORD


@functools.cache
def clip_tokenizer() -> BytePairTokenizer:
    """Return CLIP's vocabulary of 49,408 tokens, from the file that open_clip ships.

    Raises:
        WeightsError: open_clip does not have the file.
    """
    found = importlib.util.find_spec("open_clip")
    folders = found.submodule_search_locations if found else None
    file = Path((folders or ["open_clip"])[0]) / "bpe_simple_vocab_16e6.txt.gz"
    try:
        lines = _read_text(file).split("\n")[1 : CLIP_MERGES + 1]
        merges = [_pair(line) for line in lines]
    except (OSError, ValueError, EOFError, zlib.error) as error:
        raise WeightsError(f"CLIP's vocabulary can't be read from {file}: {error}.") from None
    bytes_first = [*_CHARACTERS.values()]
    characters = [*bytes_first, *(character + _END_OF_WORD for character in bytes_first)]
    tokens = [*characters, *(left + right for left, right in merges), CLIP_START, CLIP_END]
    return ClipTokenizer({t: i for i, t in enumerate(tokens)}, merges, stated=CLIP)


def gpt2_tokenizer(encoder: Path | None = None, merges: Path | None = None) -> BytePairTokenizer:
    """Return GPT-2's vocabulary, which the released GLIDE reads captions with.

    Args:
        encoder: A local file instead of the cached or downloaded one; likewise `merges`.
        merges: See `encoder`.

    Raises:
        MissingWeightsError: A file is neither given, cached nor downloadable.
    """
    return BytePairTokenizer.from_files(
        locate("gpt2-encoder", encoder, instead="glide:tiny"),
        locate("gpt2-merges", merges, instead="glide:tiny"),
        stated=GPT2,
    )


def learned_tokenizer(merges: Sequence[tuple[str, str]]) -> BytePairTokenizer:
    """Return the tokenizer of learned merges (see `train_merges`)."""
    return BytePairTokenizer(vocabulary(merges), merges)


def tokenizer_of(weights: ZooWeights) -> BytePairTokenizer:
    """Return the tokenizer that weights were trained with.

    Raises:
        WeightsError: What they state of it is damaged.
        MissingWeightsError: It is GPT-2's, which is neither cached nor downloadable.
    """
    return stated_tokenizer(weights.vocabulary)


def stated_tokenizer(stated: str) -> BytePairTokenizer:
    """Return the tokenizer of a statement, `BytePairTokenizer.stated`."""
    if stated == TINY:
        return tiny_tokenizer()
    if stated in (CLIP, GPT2):
        return clip_tokenizer() if stated == CLIP else gpt2_tokenizer()
    try:
        return learned_tokenizer([(str(left), str(right)) for left, right in json.loads(stated)])
    except (ValueError, TypeError) as error:
        raise WeightsError(
            f"The weights state no valid vocabulary ({error}). Give a file that evalkit train "
            "wrote."
        ) from None


def train_merges(texts: Sequence[str], num_merges: int) -> list[tuple[str, str]]:
    """Learn merges from texts: the most frequent pair first, ties in alphabetical order.

    For a small vocabulary of our own; `vocabulary` turns the merges into ids.
    """
    counts: dict[str, int] = {}
    for text in texts:
        for word in WORDS.findall(text.lower()):
            counts[word] = counts.get(word, 0) + 1
    words = [([_CHARACTERS[b] for b in word.encode("utf-8")], n) for word, n in counts.items()]
    merges: list[tuple[str, str]] = []
    for _ in range(num_merges):
        pairs: dict[tuple[str, str], int] = {}
        for parts, n in words:
            for pair in itertools.pairwise(parts):
                pairs[pair] = pairs.get(pair, 0) + n
        if not pairs:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        words = [(_merge(parts, best), n) for parts, n in words]
    return merges


def vocabulary(merges: Sequence[tuple[str, str]]) -> dict[str, int]:
    """Assign ids in GPT-2's order: the 256 bytes, the merged tokens, the end token."""
    tokens = [*_CHARACTERS.values(), *(left + right for left, right in merges), END_OF_TEXT]
    return {token: index for index, token in enumerate(dict.fromkeys(tokens))}


def _merge(parts: list[str], pair: tuple[str, str]) -> list[str]:
    merged: list[str] = []
    index = 0
    while index < len(parts):
        if tuple(parts[index : index + 2]) == pair:
            merged.append(pair[0] + pair[1])
            index += 2
        else:
            merged.append(parts[index])
            index += 1
    return merged


def _pair(line: str) -> tuple[str, str]:
    left, right = line.split()
    return left, right


def _read_text(path: Path) -> str:
    data = path.read_bytes()
    return (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8")


def _byte_characters() -> dict[int, str]:
    """Return a printable character for each byte: itself where printable, else from 256 on."""
    printable = [
        *range(ord("!"), ord("~") + 1),
        *range(ord("¡"), ord("¬") + 1),
        *range(ord("®"), 256),
    ]
    others = [byte for byte in range(256) if byte not in printable]
    characters = {byte: chr(byte) for byte in printable}
    return characters | {byte: chr(256 + index) for index, byte in enumerate(others)}


_CHARACTERS = _byte_characters()
_BYTES = {character: byte for byte, character in _CHARACTERS.items()}
