"""Inception features of two sets of pictures, by ours and by torch-fidelity's network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

from evalkit.features.inception import InceptionExtractor
from tests.reference.inception_weights import write_inception_weights

# More images than the dimensions of the layer whose distance is compared at full rank.
NUM_IMAGES = 300
FULL_RANK_LAYER = "192"
FEW = 24


@dataclass(frozen=True)
class Features:
    """Features of one set by both networks, by layer."""

    ours: Mapping[str, np.ndarray]
    theirs: Mapping[str, np.ndarray]


@pytest.fixture(scope="session")
def inception_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights in the format of the Inception-2015 network."""
    return write_inception_weights(tmp_path_factory.mktemp("weights") / "inception.pth")


@pytest.fixture(scope="session")
def picture_sets() -> tuple[np.ndarray, np.ndarray]:
    """Two sets of 64 px crops of real photographs, the first one darker."""
    from skimage import data
    from sklearn.datasets import load_sample_images

    full = [*load_sample_images().images, data.astronaut(), data.coffee(), data.chelsea()]
    rng = np.random.default_rng(0)

    def crop() -> np.ndarray:
        image = full[rng.integers(len(full))]
        top, left = (rng.integers(side - 64) for side in image.shape[:2])
        return np.asarray(image[top : top + 64, left : left + 64])

    fake = np.stack([crop() for _ in range(NUM_IMAGES)])
    real = np.stack([crop() for _ in range(NUM_IMAGES)])
    return (fake * 0.8).astype(np.uint8), real


@pytest.fixture(scope="session")
def shallow(
    picture_sets: tuple[np.ndarray, np.ndarray], inception_weights: Path
) -> tuple[Features, Features]:
    """The shallow layer of all images."""
    return _both(picture_sets, inception_weights, (FULL_RANK_LAYER,))


@pytest.fixture(scope="session")
def deep(
    picture_sets: tuple[np.ndarray, np.ndarray], inception_weights: Path
) -> tuple[Features, Features]:
    """The deep layers of a few images."""
    few = (picture_sets[0][:FEW], picture_sets[1][:FEW])
    return _both(few, inception_weights, ("2048", "logits_unbiased"))


def _both(
    sets: tuple[np.ndarray, np.ndarray], weights: Path, layers: tuple[str, ...]
) -> tuple[Features, Features]:
    ours = InceptionExtractor(layers, weights=weights)
    theirs = FeatureExtractorInceptionV3(
        "peer", list(layers), feature_extractor_weights_path=str(weights)
    ).to(memory_format=torch.channels_last)  # their network, in the layout that is fast here
    found = []
    for images in sets:
        prepared = np.stack([ours.prepare(image) for image in images])
        mine = [ours.encode(prepared[i : i + 50]) for i in range(0, len(images), 50)]
        batches = torch.from_numpy(images).permute(0, 3, 1, 2).split(50)
        peers = [theirs(batch) for batch in batches]
        found.append(
            Features(
                {layer: np.concatenate([part[layer] for part in mine]) for layer in layers},
                {
                    layer: torch.cat([part[i] for part in peers]).numpy()
                    for i, layer in enumerate(layers)
                },
            )
        )
    return found[0], found[1]


@pytest.fixture
def picture_folders(
    picture_sets: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> tuple[Path, Path]:
    """A few pictures of each set as PNG files."""
    folders = (tmp_path / "fake", tmp_path / "real")
    for folder, images in zip(folders, picture_sets, strict=True):
        folder.mkdir()
        for i, image in enumerate(images[:FEW]):
            Image.fromarray(image).save(folder / f"{i:03}.png")
    return folders
