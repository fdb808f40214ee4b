"""Pixels: what is drawn is what the scene says."""

from itertools import combinations

import numpy as np
import pytest
from PIL import Image, ImageDraw

from evalkit.datasets.shapes.draw import RING_HOLE_SHARE, draw_background, draw_outline, draw_scene
from evalkit.datasets.shapes.scene import (
    COLOURS,
    DIRECTIONS,
    SHAPES,
    TEXTURES,
    TONES,
    Background,
    Scene,
    SceneObject,
)

PLAIN = Background("gray", "solid", "vertical", 0)
BOX = (16.0, 20.0, 44.0, 48.0)


def draw_one(shape: str, colour: str = "red", box: tuple[float, ...] = BOX) -> np.ndarray:
    item = SceneObject(shape, colour, "large", box)
    return draw_scene(Scene("single", (item,), (), PLAIN, False))


def cover(shape: str, box: tuple[float, ...] = BOX) -> np.ndarray:
    """Share of each pixel that the object covers, from the red channel (222 on 168)."""
    return (draw_one(shape, box=box)[..., 0].astype(float) - 168) / (222 - 168)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_shape_fills_its_box_and_nothing_else(shape: str):
    left, top, right, bottom = (int(v) for v in BOX)
    covered = cover(shape)
    assert covered[top:bottom, left:right].max() == 1
    covered[top:bottom, left:right] = 0
    assert covered.max() == 0
    rows = np.flatnonzero(cover(shape).max(axis=1) > 0.05)
    columns = np.flatnonzero(cover(shape).max(axis=0) > 0.05)
    assert (rows[0], rows[-1]) == (top, bottom - 1)
    assert (columns[0], columns[-1]) == (left, right - 1)


def test_areas_by_hand():
    """Of the box's 28 x 28: square all, triangle a half, circle pi/4, ring less its hole, cross
    1 - 4 * 0.34^2."""
    expected = {
        "square": 1,
        "triangle": 0.5,
        "circle": np.pi / 4,
        "ring": np.pi / 4 * (1 - RING_HOLE_SHARE**2),
        "cross": 1 - 4 * 0.34**2,
    }
    for shape, share in expected.items():
        assert cover(shape).sum() / 28**2 == pytest.approx(share, abs=0.02)


def test_edges_are_antialiased_and_follow_quarter_pixels():
    """A square that starts a quarter into a column covers three quarters of it."""
    covered = cover("square", (16.25, 20.0, 44.25, 48.0))
    assert covered[30, 16] == pytest.approx(0.75, abs=0.02)
    assert covered[30, 44] == pytest.approx(0.25, abs=0.02)
    # Row 24 is 9.5 px above the centre of a radius of 14: the edge is at 30 - 10.28 = 19.72.
    assert cover("circle")[24, 19] == pytest.approx(0.28, abs=0.12)  # four rows of four


def test_shapes_stay_apart_at_twelve_pixels():
    """No two shapes share more than 85 % of what either covers when they are 12 px across."""
    masks = {}
    for shape in SHAPES:
        image = Image.new("L", (96, 96), 0)
        draw_outline(ImageDraw.Draw(image), shape, (0.0, 0.0), 96.0)
        masks[shape] = np.asarray(image.reduce(8)) / 255
    for one, other in combinations(SHAPES, 2):
        shared = np.minimum(masks[one], masks[other]).sum()
        assert shared / np.maximum(masks[one], masks[other]).sum() < 0.85


def test_objects_have_exactly_the_named_colour():
    for name, rgb in COLOURS.items():
        assert tuple(draw_one("square", name)[34, 30]) == rgb


def test_backgrounds_are_nearly_gray_and_objects_are_not():
    for rgb in COLOURS.values():
        assert max(rgb) - min(rgb) > 120
    for tone in TONES:
        for texture in TEXTURES:
            for direction in DIRECTIONS:
                pixels = draw_background(Background(tone, texture, direction, 5)).astype(int)
                assert (pixels.max(axis=-1) - pixels.min(axis=-1)).max() < 40


def test_each_part_of_a_background_matters():
    seen = {
        draw_background(Background(*choice)).tobytes()
        for choice in [
            ("gray", "stripes", "vertical", 1),
            ("slate", "stripes", "vertical", 1),
            ("gray", "gradient", "vertical", 1),
            ("gray", "checks", "vertical", 1),
            ("gray", "mottled", "vertical", 1),
            ("gray", "stripes", "diagonal", 1),
            ("gray", "stripes", "vertical", 2),
            ("gray", "gradient", "vertical", 2),
            ("gray", "mottled", "vertical", 2),
        ]
    }
    assert len(seen) == 9
