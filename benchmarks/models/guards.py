"""Whether every shipped network beats its trivial rival; exit status 1 if one doesn't.

    python -m benchmarks.models.guards [--n 200] [--only NAME ...]

A network beats its rival if the 95 % interval of its measure lies above the rival's value or
interval. All images and captions are of the validation split.

- Upsamplers: at least 1 dB of PSNR above bilinear enlargement of real scenes, and no fewer prompts
  found (`benchmarks.models.upsamplers`).
- Text models: prompts found, above those of the same images with shuffled captions, above those of
  random weights, and, where captions name combinations that training never showed, above those of
  the training image with the nearest caption.
- CLIPs: the right caption of 20 ranked first, above chance, and a relation preferred to its
  opposite, which the judge has not learned; the noised one at t = 0.
- Priors: the share of captions whose embedding is nearer to the image of the caption than to
  another image, above one half.
- Discrete VAE: PSNR, above that of thumbnails with as many pixels as it has codes, by scene.
- T5: the share of an image network's text states that it explains, above that of random weights.
- DDPMs: FD to real scenes below that of noise with their mean; the shape of a class, above chance.
- Noisy classifier: its shape at t = 200, above chance.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch

from benchmarks.models.dalle_codes import through
from benchmarks.models.ddpm_tiny import right_shapes, validation_scenes
from benchmarks.models.upsamplers import RealScenes, Upsampler, distance, rival, stages_of
from benchmarks.models.word_order import reversed_relation
from evalkit.datasets.shapes.dataset import describe, render
from evalkit.datasets.shapes.scene import SHAPES, Scene
from evalkit.metrics.composition import Composition, wilson_interval
from generators.base import Generator, Request
from generators.catalog import load_generator
from generators.clip.model import Clip
from generators.clip.tiny import load as load_clip
from generators.dalle.training import dvae_from
from generators.ddpm.generator import DDPMGenerator
from generators.glide.model import Text2ImUNet
from generators.imagen.text import FrozenT5, tiny_tokens
from generators.pixels import from_uint8, shrink
from generators.recipes.recipe import load_recipe
from generators.tokenizer import tiny_tokenizer
from generators.unclip.generator import UnclipGenerator
from generators.weights.zoo import weights_named, zoo_weights

BATCH = 50
RANKED = 20
LEAST_GAIN_DB = 1.0
T5_NAME, TEACHER, NOISED = "imagen-tiny-t5", "glide-tiny-base", "clip-tiny-noised"
JUDGE = "clip-tiny-judge"
FEWEST_OF_DVAE = 200
"""Scenes for the discrete VAE, whose lead is too small for fewer."""
NUM_RETRIEVED_FROM = 3_000
"""Training captions among which the nearest is found."""


@dataclass(frozen=True)
class Guard:
    """One comparison of a network with its rival."""

    network: str
    measure: str
    value: float
    low: float
    """Of the 95 % interval."""
    high: float
    rival: str
    least: float
    """What `low` must exceed."""
    may_tie: bool = False
    """Whether it is enough that the interval is not below the rival."""

    @property
    def holds(self) -> bool:
        """Whether the network beats its rival."""
        return self.high >= self.least if self.may_tie else self.low > self.least

    def row(self) -> str:
        """Format a row of the table."""
        shown = f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"
        verdict = "yes" if self.holds else "NO"
        return (
            f"| {self.network} | {self.measure} | {shown} | {self.rival}: {self.least:.3f} | "
            f"{verdict} |"
        )


def of_share(network: str, measure: str, hits: int, n: int, rival_: str, least: float) -> Guard:
    """Guard a share of hits."""
    interval = wilson_interval(hits, n)
    return Guard(network, measure, hits / n, interval.low, interval.high, rival_, least)


def of_mean(network: str, measure: str, values: np.ndarray, rival_: str, least: float) -> Guard:
    """Guard a mean."""
    mean, half = values.mean(), 1.96 * values.std(ddof=1) / np.sqrt(len(values))
    return Guard(network, measure, mean, mean - half, mean + half, rival_, least)


@dataclass(frozen=True)
class Captions:
    """Validation captions with their scenes, and what is known of training."""

    scenes: Sequence[Scene]
    texts: Sequence[str]

    @classmethod
    @cache
    def draw(cls, n: int, *, held_out: bool = False) -> Captions:
        """Take the first n, or the first n that name a combination unknown to training."""
        scenes: list[Scene] = []
        texts: list[str] = []
        index = 0
        while len(scenes) < n:
            scene, captions = describe(0, "val", index)
            if scene.held_out or not held_out:
                scenes.append(scene)
                texts.append(captions[0])
            index += 1
        return cls(scenes, texts)

    def found(self, images: Sequence[np.ndarray], *, shift: int = 0) -> int:
        """Count the images with every prompted shape and colour; shifted: of other captions."""
        scenes = [*self.scenes[shift:], *self.scenes[:shift]]
        return int(Composition.of(list(images), scenes).counts["pairs_found"].sum())


def made(model: str, captions: Captions) -> list[np.ndarray]:
    """Generate an image for each caption, with the model's own settings."""
    generator: Generator = load_generator(model)
    settings = generator.spec.default_settings()
    images: list[np.ndarray] = []
    for start in range(0, len(captions.texts), BATCH):
        part = captions.texts[start : start + BATCH]
        requests = [Request(prompt=text, seed=start + i) for i, text in enumerate(part)]
        samples = generator.generate(requests, settings)
        images += [sample.image for sample in samples if sample.image is not None]
    return images


def nearest_training_images(captions: Captions) -> list[np.ndarray]:
    """Return for each caption the training image whose caption shares the most words with it."""
    known = [describe(0, "train", index)[1][0] for index in range(NUM_RETRIEVED_FROM)]
    bags = [set(text.lower().strip(".").split()) for text in known]
    images = []
    for text in captions.texts:
        words = set(text.lower().strip(".").split())
        best = max(range(len(known)), key=lambda i: len(words & bags[i]) / len(words | bags[i]))
        images.append(render(0, "train", best)[0])
    return images


def guard_text_model(network: str, model: str, n: int) -> list[Guard]:
    """Guard the network that decides what a text model shows."""
    captions, unknown = Captions.draw(n), Captions.draw(n, held_out=True)
    images, of_unknown = made(model, captions), made(model, unknown)
    measure = f"prompts found, {model}"
    untrained = captions.found(made(f"{model}-untrained", captions))
    retrieved = unknown.found(nearest_training_images(unknown))
    shuffled = captions.found(images, shift=n // 2)
    hits, hits_of_unknown = captions.found(images), unknown.found(of_unknown)
    return [
        of_share(network, measure, hits, n, "shuffled captions", _high(shuffled, n)),
        of_share(network, measure, hits, n, "random weights", _high(untrained, n)),
        of_share(
            network, f"{measure}, unknown combinations", hits_of_unknown, n,
            "nearest training caption", _high(retrieved, n),
        ),
    ]  # fmt: skip


def guard_upsampler(network: str, model: str, stage: str, n: int) -> list[Guard]:
    """Guard an upsampler on real scenes."""
    real = RealScenes.draw(n)
    upsampler = next(u for u in stages_of(model, {}) if u.name == stage)
    outcome = real.outcome(upsampler)
    plain = real.outcome(rival("bilinear", upsampler.low_px, upsampler.high_px))
    gain = outcome.psnr_db - plain.psnr_db
    interval = wilson_interval(outcome.found, n)
    return [
        of_mean(network, "PSNR above bilinear, dB", gain, "goal", LEAST_GAIN_DB),
        Guard(
            network, "prompts found", outcome.found / n, interval.low, interval.high,
            "bilinear", plain.found / n, may_tie=True,
        ),
    ]  # fmt: skip


def guard_clip(network: str, model: str, n: int) -> list[Guard]:
    """Guard a CLIP of 64 px images."""
    clip, real = load_clip(model), RealScenes.draw(n)
    images, texts = clip.embed_images(real.pixels), clip.embed_texts(real.captions)
    guards = [_ranking(network, images, texts)]
    if network != JUDGE:  # which has not learned the order of words
        guards.append(_order(network, images, texts, clip.embed_texts(_reversed(real.captions))))
    return guards


@torch.no_grad()
def guard_noised_clip(n: int) -> list[Guard]:
    """Guard the CLIP of noisy images, on images without noise."""
    network = zoo_weights(NOISED).network(Clip, NOISED)
    real, tokenizer = RealScenes.draw(n), tiny_tokenizer()
    size = network.config.image_size
    pixels = shrink(from_uint8(torch.from_numpy(real.pixels)), size)
    images = network.encode_image(pixels, torch.zeros(n, dtype=torch.long))

    def read(captions: Sequence[str]) -> np.ndarray:
        tokens = tokenizer.pad(captions, network.config.context_length)
        return network.encode_text(tokens.ids, tokens.mask).numpy()

    texts, false = read(real.captions), read(_reversed(real.captions))
    return [_ranking(NOISED, images.numpy(), texts), _order(NOISED, images.numpy(), texts, false)]


def guard_prior(network: str, model: str, n: int) -> list[Guard]:
    """Guard a prior by whose image its embeddings are near."""
    generator = load_generator(model)
    assert isinstance(generator, UnclipGenerator)
    real = RealScenes.draw(n)
    settings = generator.spec.default_settings()["prior"]
    with torch.inference_mode():
        drawn = generator.embed(real.captions, range(n), settings)
        images = generator.clip.embed_images(from_uint8(torch.from_numpy(real.pixels)))
    assert drawn is not None
    own = (drawn * images).sum(dim=1)
    other = (drawn * images.roll(1, dims=0)).sum(dim=1)
    measure = "nearer to its caption's image than to another"
    return [of_share(network, measure, int((own > other).sum()), n, "chance", 0.5)]


def guard_dvae(name: str, n: int) -> list[Guard]:
    """Guard the discrete VAE by its reconstructions."""
    network, real = dvae_from(weights_named(name)), RealScenes.draw(max(n, FEWEST_OF_DVAE))
    grid = RealScenes.draw(1).pixels.shape[1] // network.config.factor

    def rebuilt(small: torch.Tensor, captions: Sequence[str], seeds: Sequence[int]) -> torch.Tensor:
        rows = list(seeds)
        return from_uint8(torch.from_numpy(through(network, real.pixels[rows])[1]))

    outcome = real.outcome(Upsampler(name, grid, 64, rebuilt))
    gain = outcome.psnr_db - real.outcome(rival("bilinear", grid, 64)).psnr_db
    return [of_mean(name, f"PSNR above a thumbnail of {grid} px, dB", gain, "thumbnail", 0.0)]


@torch.no_grad()
def guard_t5(n: int) -> list[Guard]:
    """Guard the text encoder by what it explains of the states that it learned from."""
    teacher = zoo_weights(TEACHER).network(Text2ImUNet, TEACHER)
    captions = Captions.draw(n).texts
    tokens = tiny_tokens(captions)
    read = tiny_tokenizer().pad(captions, teacher.text.text_ctx if teacher.text else 0)
    goal = teacher.read_text(read.ids, read.mask)
    explained = {}
    trained = FrozenT5.from_zoo().encoder
    for name, encoder in (
        ("trained", trained),
        ("random", FrozenT5.untrained(load_recipe(T5_NAME).model, seed=0).encoder),
    ):
        states = encoder(input_ids=tokens.ids, attention_mask=tokens.mask.long()).last_hidden_state
        both = read.mask & tokens.mask[:, : goal.shape[1]]
        error = (states[:, : goal.shape[1]] - goal).square().mean(-1) * both
        norm = goal.square().mean(-1) * both
        explained[name] = (1 - error.sum(1) / norm.sum(1)).numpy()
    measure = f"share of the text states of {TEACHER} explained"
    return [
        of_mean(T5_NAME, measure, explained["trained"], "random weights", explained["random"].max())
    ]


def guard_ddpm(n: int) -> list[Guard]:
    """Guard the unconditional DDPM by FD, negated so that more is better."""
    real = RealScenes.draw(n)
    generator = load_generator("ddpm:tiny")
    settings = generator.spec.default_settings()
    requests = [Request(seed=seed) for seed in range(n)]
    images = [
        from_pixels(sample.image)
        for start in range(0, n, BATCH)
        for sample in generator.generate(requests[start : start + BATCH], settings)
    ]
    small = real.pixels[:, ::4, ::4].astype(float)
    drawn = np.random.default_rng(0).normal(small.mean(0), small.std(0), small.shape)
    noise = [from_pixels(image) for image in drawn.clip(0, 255).astype(np.uint8)]
    value = -distance(images, real)
    measure, rival_ = "-FD (no interval)", "noise of the scenes' mean and deviation"
    return [Guard("ddpm-tiny", measure, value, value, value, rival_, -distance(noise, real))]


def from_pixels(image: np.ndarray | None) -> np.ndarray:
    """Enlarge an image to the size of the scenes by repeating its pixels."""
    assert image is not None
    factor = 64 // len(image)
    return image.repeat(factor, axis=0).repeat(factor, axis=1)


@torch.no_grad()
def guard_classes(n: int) -> list[Guard]:
    """Guard the class-conditional DDPM and its noisy classifier."""
    model = load_generator("ddpm:tiny-class")
    assert isinstance(model, DDPMGenerator)
    assert model.classifier is not None
    steps = model.spec.default_settings()["base"].steps or 25
    right = right_shapes(model, "ancestral", steps, n)
    x_0, labels = validation_scenes(n, model.spec.edge_px)
    noise = torch.randn(x_0.shape, generator=torch.Generator().manual_seed(0))
    t = torch.full((n,), 200)
    read = model.classifier(model.process.q_sample(x_0, t, noise), t).argmax(dim=1)
    chance = 1 / len(SHAPES)
    return [
        of_share("ddpm-tiny-class", "shape right", right, n, "chance", chance),
        of_share(
            "ddpm-tiny-classifier", "shape read at t = 200", int((read == labels).sum()), n,
            "chance", chance,
        ),
    ]  # fmt: skip


def _ranking(network: str, images: np.ndarray, texts: np.ndarray) -> Guard:
    """Guard how often an image's own caption comes first among `RANKED`."""
    n = len(images)
    hits = 0
    for row in range(n):
        others = [(row + k) % n for k in range(RANKED)]
        hits += int(np.argmax(images[row] @ texts[others].T) == 0)
    measure = f"right caption of {RANKED} first"
    return of_share(network, measure, hits, n, "chance", 1 / RANKED)


def _reversed(captions: Sequence[str]) -> list[str]:
    """State the opposite relation; captions without one only become lower case."""
    return [reversed_relation(caption.lower()) for caption in captions]


def _order(network: str, images: np.ndarray, texts: np.ndarray, false: np.ndarray) -> Guard:
    """Guard how often an image is nearer to its caption than to the opposite relation."""
    own, other = (images * texts).sum(axis=1), (images * false).sum(axis=1)
    differ = ~np.isclose(own, other)
    hits, n = int((own > other)[differ].sum()), int(differ.sum())
    return of_share(network, "relation preferred to its opposite", hits, n, "chance", 0.5)


def _high(hits: int, n: int) -> float:
    return wilson_interval(hits, n).high


GUARDS: dict[str, Callable[[int], list[Guard]]] = {
    "glide-tiny-base": lambda n: guard_text_model("glide-tiny-base", "glide:tiny", n),
    "glide-tiny-upsampler": lambda n: guard_upsampler(
        "glide-tiny-upsampler", "glide:tiny", "glide:tiny", n
    ),
    "unclip-tiny-decoder": lambda n: guard_text_model("unclip-tiny-decoder", "unclip:tiny", n),
    "unclip-tiny-sr1": lambda n: guard_upsampler(
        "unclip-tiny-sr1", "unclip:tiny", "unclip:tiny sr1", n
    ),
    "unclip-tiny-sr2": lambda n: guard_upsampler(
        "unclip-tiny-sr2", "unclip:tiny", "unclip:tiny sr2", n
    ),
    "unclip-tiny-prior": lambda n: guard_prior("unclip-tiny-prior", "unclip:tiny", n),
    "unclip-tiny-prior-ar": lambda n: guard_prior("unclip-tiny-prior-ar", "unclip:tiny-ar", n),
    "imagen-tiny-base": lambda n: guard_text_model("imagen-tiny-base", "imagen:tiny", n),
    "imagen-tiny-sr1": lambda n: guard_upsampler(
        "imagen-tiny-sr1", "imagen:tiny", "imagen:tiny sr1", n
    ),
    "imagen-tiny-sr2": lambda n: guard_upsampler(
        "imagen-tiny-sr2", "imagen:tiny", "imagen:tiny sr2", n
    ),
    T5_NAME: guard_t5,
    "dalle-tiny-dvae": lambda n: guard_dvae("dalle-tiny-dvae", n),
    "dalle-tiny-transformer": lambda n: guard_text_model("dalle-tiny-transformer", "dalle:tiny", n),
    "clip-tiny": lambda n: guard_clip("clip-tiny", "clip:tiny", n),
    JUDGE: lambda n: guard_clip(JUDGE, "clip:tiny-judge", n),
    NOISED: guard_noised_clip,
    "ddpm-tiny": guard_ddpm,
    "ddpm-tiny-class": guard_classes,
    "ddpm-tiny-classifier": lambda n: [],  # with ddpm-tiny-class
}
"""By the name of the network in the zoo; all of them."""


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--n", type=int, default=200, help="images of each guard")
    parser.add_argument("--only", nargs="+", default=list(GUARDS), choices=list(GUARDS))
    options = parser.parse_args()
    print("| network | measure | value | rival | beaten |\n|---|---|---|---|---|", flush=True)
    failed = 0
    for name in options.only:
        for guard in GUARDS[name](options.n):
            print(guard.row(), flush=True)
            failed += not guard.holds
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
