"""Sampling from DALL-E: captions to padded ids, ids to codes, one after another, codes to pixels.

Each image has its own stream of random numbers, one a code, drawn before the first; a number picks
the code whose share of the (cumulated) distribution it falls into. So what is drawn depends on
neither batch size, order nor device.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor

from evalkit.core.errors import ConfigError
from generators.dalle.dvae import DVAEConfig, DVAEDecoder
from generators.dalle.model import DalleConfig, DalleTransformer
from generators.finite import StageWatch
from generators.tokenizer import BytePairTokenizer

Progress = Callable[[int, int], None]


def text_ids(
    tokenizer: BytePairTokenizer,
    captions: Sequence[str],
    length: int,
    *,
    dropout: float = 0.0,
    rngs: Sequence[torch.Generator] = (),
) -> tuple[Int[Tensor, "batch length"], tuple[bool, ...]]:
    """Encode captions, padded with the padding ids of their positions.

    Args:
        tokenizer: Lower case, byte pairs.
        captions: Longer ones lose their end.
        length: T, positions.
        dropout: Share of merges left out in training, so that a word comes in several cuts
            (Provilkov et al. 2019; DALL-E, section 2.2: 10 %).
        rngs: Sources of the dropout's randomness, one per caption, on the CPU.

    Returns:
        The ids, and which captions were cut.
    """
    ids = (tokenizer.num_tokens + torch.arange(length)).repeat(len(captions), 1)
    truncated = []
    for row, caption in enumerate(captions):
        tokens = tokenizer.encode(caption, _keeper(dropout, rngs[row]) if dropout else None)
        kept = torch.tensor(tokens[:length], dtype=torch.long)
        ids[row, : len(kept)] = kept
        truncated.append(len(tokens) > length)
    return ids, tuple(truncated)


@torch.inference_mode()
def sample_codes(
    network: DalleTransformer,
    text: Int[Tensor, "batch length"],
    rngs: Sequence[torch.Generator],
    *,
    guidance_scale: float = 1.0,
    temperature: float = 1.0,
    top_k: int = 0,
    cached: bool = True,
    progress: Progress | None = None,
    watch: StageWatch | None = None,
) -> Int[Tensor, "batch num_codes"]:
    """Sample the image tokens of captions in raster order.

    Args:
        network: The transformer.
        text: Ids of the captions.
        rngs: One per image, on the CPU.
        guidance_scale: s of classifier-free guidance, l_u + s (l - l_u) for the logits l and those
            behind an empty caption, l_u (Gafni et al. 2022, Make-A-Scene). 1: none, as in the
            paper; other values take up to twice the time, and are for a network that was trained
            with `caption_dropout`.
        temperature: Divides the logits; below 1 favours likely codes, 0 takes the likeliest.
        top_k: Only this many of the likeliest codes can be drawn; 0: all.
        cached: Keep keys and values; without, every token costs the whole stream again.
        progress: Told after each token.
        watch: Looks at the logits; images whose logits are not finite go on with equal ones.
    """
    count = network.config.num_image_tokens
    draws = torch.stack([torch.rand(count, generator=g, dtype=torch.float64) for g in rngs])
    draws = draws.to(text.device)
    codes = torch.empty(len(text), count, dtype=torch.long, device=text.device)
    guided = guidance_scale != 1.0
    if guided:
        text = torch.cat([text, empty_ids(network.config).to(text.device).expand_as(text)])
    streams = len(text) // len(codes)
    logits, cache = network.begin(text)
    for place in range(count):
        if place and cached:
            logits = network.advance(codes[:, place - 1].repeat(streams), cache)
        elif place:
            logits = network(text, codes[:, :place].repeat(streams, 1))[1][:, -1]
        if guided:
            with_caption, without = logits.chunk(2)
            logits = without + guidance_scale * (with_caption - without)
        if watch is not None:
            logits = watch.mend(logits)
        codes[:, place] = choose(logits, draws[:, place], temperature=temperature, top_k=top_k)
        if progress is not None:
            progress(place + 1, count)
    return codes


def empty_ids(config: DalleConfig) -> Int[Tensor, " length"]:
    """Return the ids of an empty caption: the padding ids of all positions."""
    return config.text_vocab + torch.arange(config.text_length)


def choose(
    logits: Float[Tensor, "batch codes"],
    draws: Float64[Tensor, " batch"],
    *,
    temperature: float = 1.0,
    top_k: int = 0,
) -> Int[Tensor, " batch"]:
    """Return the code that each number in [0, 1) selects.

    >>> logits = torch.tensor([[0.5, 0.3, 0.2]]).log().expand(3, 3)
    >>> draws = torch.tensor([0.49, 0.79, 0.81], dtype=torch.float64)
    >>> choose(logits, draws).tolist()
    [0, 1, 2]
    >>> choose(logits, draws, top_k=2).tolist()  # shares 5/8 and 3/8
    [0, 1, 1]
    """
    if temperature == 0:
        return logits.argmax(dim=-1)
    scaled = logits.double() / temperature
    if 0 < top_k < logits.shape[-1]:
        kept = scaled.topk(top_k, dim=-1)
        scaled = torch.full_like(scaled, -torch.inf).scatter(-1, kept.indices, kept.values)
    cumulated = scaled.softmax(dim=-1).cumsum(dim=-1)
    reached = draws[:, None] * cumulated[:, -1:]
    return torch.searchsorted(cumulated, reached, right=True)[:, 0].clamp(max=logits.shape[-1] - 1)


@torch.inference_mode()
def paint(
    decoder: DVAEDecoder, codes: Int[Tensor, "batch num_codes"]
) -> Float[Tensor, "batch channels height width"]:
    """Decode codes to images in [-1, 1]."""
    edge = round(codes.shape[1] ** 0.5)
    return 2 * decoder.reconstruction(codes.view(len(codes), edge, edge)) - 1


def check_codes(config: DalleConfig, dvae: DVAEConfig, num_text_tokens: int) -> None:
    """Check that the transformer's vocabularies match the codes and the tokens.

    Raises:
        ConfigError: They differ.
    """
    for what, wanted, given in (
        ("image_vocab", config.image_vocab, dvae.vocab_size),
        ("text_vocab", config.text_vocab, num_text_tokens),
    ):
        if wanted != given:
            raise ConfigError(
                f"The transformer's {what} is {wanted}, but there are {given} tokens."
            )


def check_grid(config: DalleConfig, dvae: DVAEConfig, image_px: int) -> None:
    """Check that the codes of training images fill the transformer's grid.

    Raises:
        ConfigError: They don't.
    """
    if image_px != config.grid_size * dvae.factor:
        raise ConfigError(
            f"The transformer's grid_size is {config.grid_size}, but the discrete VAE makes a grid "
            f"of {image_px // dvae.factor} codes an edge of images of {image_px} px."
        )


def _keeper(dropout: float, rng: torch.Generator) -> Callable[[], bool]:
    seed = int(torch.randint(2**62, (), generator=rng))
    draws = np.random.default_rng(seed)
    return lambda: bool(draws.random() >= dropout)
