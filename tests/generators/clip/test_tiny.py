"""The shipped CLIPs: they can tell captions apart, and the judge is another network."""

from __future__ import annotations

import numpy as np
import pytest

from evalkit.datasets.shapes.dataset import render
from generators.catalog import CLIP_MODELS
from generators.clip.tiny import load
from generators.recipes.recipe import load_recipe
from generators.weights.zoo import zoo_weights

CHANCE = 1 / 64


@pytest.mark.parametrize("name", list(CLIP_MODELS))
def test_images_find_their_caption(name: str) -> None:
    """Of 64 validation captions the right one is ranked first far more often than by chance."""
    clip = load(name)
    drawn = [render(0, "val", index) for index in range(64)]
    images = clip.embed_images(np.stack([pixels for pixels, _, _ in drawn]))
    texts = clip.embed_texts([captions[0] for _, _, captions in drawn])
    assert np.allclose(np.linalg.norm(images, axis=1), 1, atol=1e-5)
    assert np.allclose(np.linalg.norm(texts, axis=1), 1, atol=1e-5)
    hits = (images @ texts.T).argmax(1) == np.arange(64)
    assert hits.mean() > 20 * CHANCE


def test_the_judge_shares_nothing_with_the_models_clip() -> None:
    """No model may be judged by what trained or re-ranked it."""
    own, judge = (zoo_weights(part).recipe for part in ("clip-tiny", "clip-tiny-judge"))
    first = load_recipe("clip-tiny-first")
    assert own.start_from == first.name
    assert first.start_from is judge.start_from is None
    assert first.seed != judge.seed, "the random initial weights"
    assert own.data.seed != judge.data.seed
    assert own.model["vision_width"] != judge.model["vision_width"]
