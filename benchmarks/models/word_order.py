"""Whether glide:tiny's base and its noised CLIP read the order of words, or only the words.

    python -m benchmarks.models.word_order [--n 200] [--weights FILE]

A diffusion model is a classifier (Li et al. 2023): of two captions of a noisy image, the one with
the lower error is the likelier. Validation scenes of two things of different shapes and colours,
noised to t; per t the share of scenes for which the base prefers the true caption to the same words
in a false order (relation reversed; colours exchanged), and, for comparison, to one with another
colour: 0.5 is a coin flip. Then the error in x_0 when the caption reaches the network only through
its single vector, only through the states of its words, both, or not at all. Last the same question
to the noised CLIP: is the noisy image nearer to the true caption than to a false one? Three
Markdown tables.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from evalkit.datasets.shapes.dataset import render
from evalkit.datasets.shapes.scene import COLOUR_NAMES, INVERSE
from evalkit.metrics.composition import wilson_interval
from generators.clip.model import Clip
from generators.diffusion.process import DiffusionProcess
from generators.glide.model import Text2ImUNet, TextStates
from generators.pixels import from_uint8, shrink
from generators.tokenizer import tiny_tokenizer
from generators.weights.zoo import zoo_weights

NAME = "glide-tiny-base"
CLIP_NAME = "clip-tiny-noised"
TIMESTEPS = (300, 500, 600, 700, 800, 900)
_COLOUR = re.compile("|".join(COLOUR_NAMES))
_RELATION = re.compile("left of|right of|above|below|over|under")
_OPPOSITE = {**INVERSE, "over": "under", "under": "over"}


def reversed_relation(caption: str) -> str:
    """State the opposite relation."""
    return _RELATION.sub(lambda found: _OPPOSITE[found[0]], caption)


def exchanged_colours(caption: str) -> str:
    """Give each of two things the colour of the other."""
    one, other = _COLOUR.findall(caption)[:2]
    return _COLOUR.sub(lambda found: other if found[0] == one else one, caption)


def another_colour(caption: str) -> str:
    """Change the first thing's colour."""
    others = [name for name in COLOUR_NAMES if name not in caption]
    return _COLOUR.sub(others[0], caption, count=1)


CHANGES: dict[str, Callable[[str], str]] = {
    "relation reversed": reversed_relation,
    "colours exchanged": exchanged_colours,
    "another colour": another_colour,
}


@dataclass(frozen=True)
class Scenes:
    """Small images of two things, with their captions in lower case."""

    x_0: Tensor
    captions: Sequence[str]

    @classmethod
    def draw(cls, count: int, size_px: int) -> Scenes:
        """Take the first validation scenes whose things differ in shape and colour."""
        images, captions = [], []
        index = 0
        while len(images) < count:
            pixels, scene, texts = render(0, "val", index)
            index += 1
            things = [(item.shape, item.colour) for item in scene.objects]
            if scene.kind == "relation" and all(a != b for a, b in zip(*things, strict=True)):
                images.append(from_uint8(torch.from_numpy(pixels)[None]))
                captions.append(texts[0].lower())
        return cls(shrink(torch.cat(images), size_px), captions)


class Reader:
    """The base, and its errors on noisy images by caption."""

    def __init__(self, path: Path | None) -> None:
        weights = zoo_weights(NAME, path)
        self.network = weights.network(Text2ImUNet, NAME)
        self.process = DiffusionProcess.from_objective(weights.recipe.objective)

    def states(self, captions: Sequence[str]) -> TextStates:
        """Encode captions."""
        assert self.network.text is not None
        tokens = tiny_tokenizer().pad(captions, self.network.text.text_ctx)
        return self.network.encode_text(tokens.ids, tokens.mask)

    def errors(self, x_0: Tensor, t: int, text: TextStates) -> Tensor:
        """Return each image's mean squared error in x_0, with the same noise at every call."""
        noise = torch.randn(x_0.shape, generator=torch.Generator().manual_seed(t))
        steps = torch.full((len(x_0),), t)
        output = self.network(self.process.q_sample(x_0, steps, noise), steps, text=text)
        alpha_bar = float(self.process.alpha_bar[t])
        return (output[:, :3] - noise).square().flatten(1).mean(1) * (1 - alpha_bar) / alpha_bar


class ClipReader:
    """The noised CLIP, and its similarities of noisy images to captions."""

    def __init__(self, process: DiffusionProcess) -> None:
        self.network = zoo_weights(CLIP_NAME).network(Clip, CLIP_NAME)
        self.process = process

    def nearness(self, x_0: Tensor, t: int, captions: Sequence[str]) -> Tensor:
        """Return each image's cosine to its caption, with the same noise at every call."""
        noise = torch.randn(x_0.shape, generator=torch.Generator().manual_seed(t))
        steps = torch.full((len(x_0),), t)
        images = self.network.encode_image(self.process.q_sample(x_0, steps, noise), steps)
        tokens = tiny_tokenizer().pad(captions, self.network.config.context_length)
        return (images * self.network.encode_text(tokens.ids, tokens.mask)).sum(dim=1)


def _share(hits: int, n: int) -> str:
    interval = wilson_interval(hits, n)
    return f"{hits / n:.2f} [{interval.low:.2f}, {interval.high:.2f}]"


@torch.no_grad()
def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--n", type=int, default=200)
    parser.add_argument("--weights", type=Path)
    options = parser.parse_args()
    reader = Reader(options.weights)
    scenes = Scenes.draw(options.n, reader.network.config.image_size)
    true = reader.states(scenes.captions)
    false = {name: reader.states(list(map(c, scenes.captions))) for name, c in CHANGES.items()}
    print(f"true caption preferred, n = {options.n}\n")
    print("| t | " + " | ".join(CHANGES) + " |")
    print("|---" * (len(CHANGES) + 1) + "|")
    for t in TIMESTEPS:
        own = reader.errors(scenes.x_0, t, true)
        hits = [int((reader.errors(scenes.x_0, t, text) > own).sum()) for text in false.values()]
        print(f"| {t} | " + " | ".join(_share(hit, options.n) for hit in hits) + " |", flush=True)
    nothing = reader.states([""] * options.n)
    paths = {
        "both": true,
        "vector only": replace(true, states=nothing.states, kv=nothing.kv),
        "words only": replace(true, proj=nothing.proj),
        "no caption": nothing,
    }
    print("\n| t | " + " | ".join(f"error, {name}" for name in paths) + " |")
    print("|---" * (len(paths) + 1) + "|")
    for t in TIMESTEPS:
        found = [float(reader.errors(scenes.x_0, t, text).mean()) for text in paths.values()]
        print(f"| {t} | " + " | ".join(f"{error:.4f}" for error in found) + " |", flush=True)
    clip = ClipReader(reader.process)
    changed = [list(map(change, scenes.captions)) for change in CHANGES.values()]
    print("\n| t, noised CLIP | " + " | ".join(CHANGES) + " |")
    print("|---" * (len(CHANGES) + 1) + "|")
    for t in (0, *TIMESTEPS):
        near = clip.nearness(scenes.x_0, t, scenes.captions)
        hits = [int((near > clip.nearness(scenes.x_0, t, texts)).sum()) for texts in changed]
        print(f"| {t} | " + " | ".join(_share(hit, options.n) for hit in hits) + " |", flush=True)


if __name__ == "__main__":
    main()
