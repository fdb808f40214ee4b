"""Every network that ships loads, samples, and is what its row and its recipe say."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from evalkit.datasets.shapes.detector import detect
from evalkit.datasets.shapes.scene import COLOUR_NAMES, SHAPES
from generators.base import Request, resolve_settings
from generators.catalog import MODELS, load_generator
from generators.recipes.recipe import list_recipes, load_recipe
from generators.weights.quantised import SCALE
from generators.weights.state_dicts import load_state_dict
from generators.weights.zoo import ZOO, zoo_weights

EMBEDDED = sorted(name for name, row in MODELS.items() if row.weights == "embedded")
SHIPPED = sorted(path.stem for path in ZOO.glob("*.safetensors"))
CARDS = (ZOO / "README.md").read_text("utf-8")
MAX_ZOO_MIB = 52
MAX_TRACKED_MIB = 56


@pytest.mark.parametrize("name", EMBEDDED)
def test_every_embedded_model_samples(name: str) -> None:
    generator = load_generator(name)
    row = MODELS[name]
    assert generator.spec.conditioning == row.conditioning
    assert generator.spec.size_px == row.size_px
    assert generator.spec.training_data == ("shapes",)
    request = {
        "text": Request(prompt="a red circle", seed=1),
        "class": Request(label=3, seed=1),
        "none": Request(seed=1),
    }[row.conditioning]
    few = ",".join(f"{stage.name}=2" for stage in generator.spec.stages if stage.defaults.steps)
    (sample,) = generator.generate([request], resolve_settings(generator.spec, steps=few or None))
    assert sample.image is not None
    assert sample.image.shape == (row.size_px, row.size_px, 3)
    assert sample.image.std() > 1  # not one flat colour


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_network_came_of_a_recipe_and_has_a_card(name: str) -> None:
    recipe = zoo_weights(name).recipe
    assert recipe.name in list_recipes()
    known = load_recipe(recipe.name)
    assert (recipe.network, recipe.model) == (known.network, known.model)
    assert recipe.data.split == "train"
    stored = load_state_dict(ZOO / f"{name}.safetensors")
    assert (recipe.stored_as == "int8") == any(key.endswith(SCALE) for key in stored)
    assert recipe.stored_as == known.stored_as
    megabytes = (ZOO / f"{name}.safetensors").stat().st_size / 1e6
    (row,) = (line for line in CARDS.splitlines() if line.startswith(f"| `{name}` |"))
    assert f"| {recipe.stored_as}, {megabytes:.2f} MB |" in row


def test_classes_that_are_asked_for_are_drawn() -> None:
    """Random weights or ignored labels would give none, or as many for the next class."""
    model = load_generator("ddpm:tiny-class")
    labels = [index % len(SHAPES) for index in range(21)]
    requests = [Request(label=label, seed=seed) for seed, label in enumerate(labels)]
    made = model.generate(requests, model.spec.default_settings())
    seen = [[found.shape for found in detect(sample.image)] for sample in made]
    right = sum(shapes == [SHAPES[label]] for shapes, label in zip(seen, labels, strict=True))
    next_class = [SHAPES[(label + 1) % len(SHAPES)] for label in labels]
    wrong = sum(shapes == [shape] for shapes, shape in zip(seen, next_class, strict=True))
    assert right >= 8
    assert wrong <= 3


@pytest.mark.parametrize("name", [n for n in EMBEDDED if MODELS[n].conditioning == "text"])
def test_colours_that_are_asked_for_are_drawn(name: str) -> None:
    """Random weights or ignored captions would give none, or as many of the next colour."""
    model = load_generator(name)
    colours = COLOUR_NAMES
    asked = [colours[index % len(colours)] for index in range(2 * len(colours))]
    requests = [
        Request(prompt=f"a large {colour} square", seed=seed) for seed, colour in enumerate(asked)
    ]
    made = model.generate(requests, model.spec.default_settings())
    seen = [{found.colour for found in detect(sample.image)} for sample in made]
    right = sum(colour in found for colour, found in zip(asked, seen, strict=True))
    others = [colours[(colours.index(colour) + 1) % len(colours)] for colour in asked]
    wrong = sum(colour in found for colour, found in zip(others, seen, strict=True))
    assert right >= len(asked) // 2
    assert wrong <= len(asked) // 4


def test_the_zoo_stays_small() -> None:
    assert sum(path.stat().st_size for path in ZOO.iterdir()) <= MAX_ZOO_MIB * 2**20


def test_what_git_tracks_can_be_carried_to_another_machine(root: Path) -> None:
    """`git ls-files | xargs -d '\\n' du -cb`: a lent machine takes 64 MiB with what is built."""
    if not (root / ".git").exists() or shutil.which("git") is None:
        pytest.skip("not a checkout of git")
    found = subprocess.run(["git", "ls-files", "-z"], cwd=root, capture_output=True, check=True)
    files = [root / name for name in found.stdout.decode().split("\0") if name]
    assert len(files) > 500
    assert sum(file.stat().st_size for file in files if file.is_file()) < MAX_TRACKED_MIB * 2**20
