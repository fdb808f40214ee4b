"""The detector against images whose contents are known."""

from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw
from scipy import ndimage

from evalkit.datasets.shapes.dataset import render
from evalkit.datasets.shapes.detector import detect
from evalkit.datasets.shapes.draw import draw_background, draw_scene
from evalkit.datasets.shapes.scene import (
    COLOUR_NAMES,
    COLOURS,
    DIRECTIONS,
    SHAPES,
    SIZES_PX,
    TEXTURES,
    TONES,
    Background,
    Scene,
    SceneObject,
)
from evalkit.metrics.composition import check

PLAIN = Background("gray", "solid", "vertical", 0)
SIZE_TOLERANCE_PX = 1.0
NUM_QUICK = 60
NUM_FULL = 1000

Change = Callable[[np.ndarray, int], np.ndarray]


def shrink(size_px: int) -> Change:
    def change(image: np.ndarray, index: int) -> np.ndarray:
        small = Image.fromarray(image).resize((size_px, size_px), Image.Resampling.BICUBIC)
        return np.array(small.resize((64, 64), Image.Resampling.BICUBIC))

    return change


def add_noise(image: np.ndarray, index: int) -> np.ndarray:
    noise = np.random.RandomState(index).standard_normal(image.shape) * 8
    return np.clip(np.rint(image + noise), 0, 255).astype(np.uint8)


def keep(image: np.ndarray, index: int) -> np.ndarray:
    return image


def soften(image: np.ndarray, index: int) -> np.ndarray:
    return ndimage.gaussian_filter(image, (1, 1, 0))


def pale(image: np.ndarray, index: int) -> np.ndarray:
    return (image * 0.75 + image.mean(axis=-1, keepdims=True) * 0.25).astype(np.uint8)


def darken(image: np.ndarray, index: int) -> np.ndarray:
    return (image * 0.8).astype(np.uint8)


CHANGES: dict[str, tuple[Change, float]] = {
    "as drawn": (keep, 0.95),
    "by way of 32 px": (shrink(32), 0.95),
    "by way of 16 px": (shrink(16), 0.90),
    "noise of 8": (add_noise, 0.95),
    "blurred": (soften, 0.95),
    "pale": (pale, 0.95),
    "dark": (darken, 0.95),
}
"""What is done to an image, and the share of images that must still be read without any fault."""


def share_right(change: Change, count: int) -> float:
    """Share of validation images whose shapes, colours, counts and relations are all read right."""
    exact = 0
    for index in range(count):
        image, scene, _ = render(7, "val", index)
        exact += check(change(image, index), scene).exact
    return exact / count


@pytest.mark.parametrize("name", CHANGES)
def test_reads_validation_scenes(name: str):
    change, least = CHANGES[name]
    assert share_right(change, NUM_QUICK) >= least


@pytest.mark.slow
@pytest.mark.parametrize("name", CHANGES)
def test_reads_a_thousand_validation_scenes(name: str):
    change, least = CHANGES[name]
    found = share_right(change, NUM_FULL)
    print(f"{name}: all right in {found:.1%} of {NUM_FULL}")
    assert found >= least


def one_object(shape: str, colour: str, size: str, left: float, top: float) -> Scene:
    side = SIZES_PX[size]
    side = round(side * 4) / 4
    item = SceneObject(shape, colour, size, (left, top, left + side, top + side))
    return Scene("single", (item,), (), PLAIN, False)


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(SHAPES),
    st.sampled_from(COLOUR_NAMES),
    st.sampled_from(tuple(SIZES_PX)),
    st.integers(4, 136),
    st.integers(4, 136),
)
def test_finds_one_object_wherever_it_is(shape: str, colour: str, size: str, left: int, top: int):
    scene = one_object(shape, colour, size, left / 4, top / 4)
    (found,) = detect(draw_scene(scene))
    assert (found.shape, found.colour, found.size) == (shape, colour, size)
    assert np.abs(np.subtract(found.box, scene.objects[0].box)).max() <= SIZE_TOLERANCE_PX
    assert found.confidence > 0.9


def test_nothing_in_empty_images():
    for tone in TONES:
        for texture in TEXTURES:
            for direction in DIRECTIONS:
                assert detect(draw_background(Background(tone, texture, direction, 3))) == []
    for value in (0, 128, 255):
        assert detect(np.full((64, 64, 3), value, np.uint8)) == []


def test_noise_holds_no_objects():
    random = np.random.RandomState(0)
    for _ in range(5):
        assert detect(random.randint(0, 256, (64, 64, 3)).astype(np.uint8)) == []


def test_a_picture_of_one_colour_is_handled():
    for rgb in COLOURS.values():
        assert len(detect(np.full((64, 64, 3), rgb, np.uint8))) <= 1


def drawn(paint: Callable[[ImageDraw.ImageDraw], object]) -> np.ndarray:
    image = Image.new("RGB", (256, 256), TONES["gray"])
    paint(ImageDraw.Draw(image))
    return np.array(image.reduce(4))


def test_forms_that_are_none_of_the_shapes():
    red = COLOURS["red"]
    forms = [
        lambda d: d.rectangle((40, 100, 200, 125), fill=red),
        lambda d: d.arc((60, 60, 180, 180), 0, 250, fill=red, width=25),
        lambda d: d.polygon(
            [(60, 60), (100, 60), (100, 140), (180, 140), (180, 180), (60, 180)], fill=red
        ),
        lambda d: [d.line((60, y, 180, 240 - y), fill=red, width=30) for y in (60, 180)],
    ]
    for form in forms:
        assert detect(drawn(form)) == []


def test_specks_are_passed_over():
    image = draw_scene(one_object("square", "blue", "large", 10.0, 10.0))
    image[50:54, 50:54] = COLOURS["red"]
    assert [found.colour for found in detect(image)] == ["blue"]


def test_touching_objects_of_two_colours_are_two():
    boxes = ((6.0, 20.0, 26.0, 40.0), (26.0, 20.0, 46.0, 40.0))
    for shapes in (("square", "square"), ("square", "circle")):
        items = [
            SceneObject(shape, colour, "medium", box)
            for shape, colour, box in zip(shapes, ("red", "green"), boxes, strict=True)
        ]
        found = detect(draw_scene(Scene("several", tuple(items), (), PLAIN, False)))
        assert [(f.shape, f.colour) for f in found] == [(i.shape, i.colour) for i in items]


def test_objects_of_one_colour_that_run_together_are_two():
    """A thin bridge joins them, as blur does; only a higher threshold tells them apart."""
    boxes = ((4.0, 20.0, 24.0, 40.0), (29.0, 20.0, 49.0, 40.0))
    items = tuple(SceneObject("circle", "red", "medium", box) for box in boxes)
    image = draw_scene(Scene("count", items, (), PLAIN, False)).astype(float)
    bridge = 0.58 * np.array(COLOURS["red"]) + 0.42 * np.array(TONES["gray"])
    image[28:32, 23:30] = bridge
    found = detect(image.round().astype(np.uint8))
    assert Counter((f.shape, f.colour) for f in found) == {("circle", "red"): 2}


def test_other_image_sizes_are_scaled_first():
    image = draw_scene(one_object("star", "purple", "large", 20.0, 20.0))
    for size_px in (32, 128, 256):
        scaled = np.array(Image.fromarray(image).resize((size_px, size_px)))
        (found,) = detect(scaled)
        assert (found.shape, found.colour) == ("star", "purple")
        assert np.abs(np.subtract(found.box, (20, 20, 48, 48))).max() <= 1.5


def test_mirrored_images_give_mirrored_objects():
    image, _, _ = render(0, "val", 7)
    mirror = detect(np.ascontiguousarray(image[:, ::-1]))
    forward = sorted((f.shape, f.colour, f.centre[0]) for f in detect(image))
    backward = sorted((f.shape, f.colour, 64 - f.centre[0]) for f in mirror)
    assert len(forward) == len(backward) == 2
    for one, other in zip(forward, backward, strict=True):
        assert one[:2] == other[:2]
        assert one[2] == pytest.approx(other[2], abs=0.3)
