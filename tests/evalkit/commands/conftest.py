"""A COCO-format folder of real photographs, and random weights in Inception's format."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

CAPTIONS = [
    "a red circle",
    "a large blue square",
    "two green triangles",
    "a yellow star above a purple ring",
]
NUM_CROPS = 12


def photographs() -> list[Image.Image]:
    """The photographs that scikit-image and scikit-learn carry."""
    from skimage import data
    from sklearn.datasets import load_sample_images

    arrays = [data.astronaut(), data.coffee(), data.chelsea(), data.rocket(), data.retina()]
    return [Image.fromarray(np.asarray(a)) for a in [*arrays, *load_sample_images().images]]


@pytest.fixture(scope="session")
def coco_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """val2014 as COCO lays it out: JPEG, not square, one grayscale and one CMYK among them."""
    root = tmp_path_factory.mktemp("coco")
    (root / "val2014").mkdir()
    (root / "annotations").mkdir()
    rng = np.random.default_rng(0)
    images, annotations = [], []
    for index in range(NUM_CROPS):
        photo = photographs()[index % 7]
        width, height = rng.integers(100, 230, 2)
        left, top = rng.integers(0, photo.width - 230), rng.integers(0, photo.height - 230)
        crop = photo.crop((left, top, left + width, top + height))
        crop = crop.convert({3: "L", 5: "CMYK"}.get(index, "RGB"))
        name = f"COCO_val2014_{index:012d}.jpg"
        crop.save(root / "val2014" / name, quality=95)
        images.append({"id": index, "file_name": name, "width": int(width), "height": int(height)})
        annotations += [
            {"id": 10 * index + k, "image_id": index, "caption": CAPTIONS[(index + k) % 4]}
            for k in range(5)
        ]
    document = {"info": {}, "licenses": [], "images": images, "annotations": annotations}
    (root / "annotations" / "captions_val2014.json").write_text(json.dumps(document))
    return root


@pytest.fixture(scope="session")
def inception_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Inception network's state dict with seeded random weights."""
    from evalkit.features.inception import InceptionNetwork

    with torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(0)
        state = InceptionNetwork().state_dict()
    path = tmp_path_factory.mktemp("weights") / "random-inception.pth"
    torch.save(state, path)
    return path
