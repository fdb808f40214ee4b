"""Rasterise a scene of `shapes`: a low-saturation background and flat, anti-aliased objects.

Objects are drawn four times larger and averaged down; the background is computed at full size. Each
outline fills its box exactly, so the annotated box is the visible extent.
"""

import math
from collections.abc import Callable, Mapping
from functools import cache

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw

from evalkit.datasets.shapes.scene import (
    COLOURS,
    IMAGE_SIZE_PX,
    TONES,
    Background,
    Scene,
    SceneObject,
)

SUPERSAMPLING = 4
RING_HOLE_SHARE = 0.52
_TEXTURE_AMPLITUDE = 11.0
_GRADIENT_AMPLITUDE = 26.0
_PERIOD_PX = 10.0
_EDGE_STEEPNESS = 3.0

Points = tuple[tuple[float, float], ...]


def draw_scene(scene: Scene) -> UInt8[np.ndarray, "64 64 3"]:
    """Draw the scene as RGB pixels, 0-255."""
    image = Image.fromarray(draw_background(scene.background))
    for item in scene.objects:
        _paint(image, item)
    return np.array(image)


def _paint(image: Image.Image, item: SceneObject) -> None:
    left, top = math.floor(item.box[0]), math.floor(item.box[1])
    right, bottom = math.ceil(item.box[2]), math.ceil(item.box[3])
    scale = SUPERSAMPLING
    mask = Image.new("L", ((right - left) * scale, (bottom - top) * scale), 0)
    corner = ((item.box[0] - left) * scale, (item.box[1] - top) * scale)
    draw_outline(ImageDraw.Draw(mask), item.shape, corner, (item.box[2] - item.box[0]) * scale)
    image.paste(COLOURS[item.colour], (left, top), mask.reduce(scale))


def draw_outline(
    canvas: ImageDraw.ImageDraw, shape: str, corner: tuple[float, float], side: float
) -> None:
    """Fill one shape white on a mask, inside the square of `side` at `corner`."""
    left, top = corner
    if shape in ("circle", "ring"):
        canvas.ellipse((left, top, left + side - 1, top + side - 1), fill=255)
        if shape == "ring":
            inset = side * (1 - RING_HOLE_SHARE) / 2
            canvas.ellipse(
                (left + inset, top + inset, left + side - 1 - inset, top + side - 1 - inset), fill=0
            )
        return
    canvas.polygon(
        [(left + x * (side - 1), top + y * (side - 1)) for x, y in outline(shape)], fill=255
    )


@cache
def outline(shape: str) -> Points:
    """Return a polygon's corners, stretched to fill the unit square (y points down)."""
    return _fill_unit_square(_OUTLINES[shape]())


def _fill_unit_square(points: Points) -> Points:
    xs, ys = [x for x, _ in points], [y for _, y in points]
    return tuple(
        ((x - min(xs)) / (max(xs) - min(xs)), (y - min(ys)) / (max(ys) - min(ys)))
        for x, y in points
    )


def _square() -> Points:
    return ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0))


def _triangle() -> Points:
    return ((0.5, 0.0), (1.0, 1.0), (0.0, 1.0))


def _star() -> Points:
    radii = (1.0, 0.42)
    return tuple(
        (radii[k % 2] * math.sin(math.pi * k / 5), -radii[k % 2] * math.cos(math.pi * k / 5))
        for k in range(10)
    )


def _cross() -> Points:
    near, low, high, far = 0.0, 0.34, 0.66, 1.0
    return (
        (low, near), (high, near), (high, low), (far, low), (far, high), (high, high),
        (high, far), (low, far), (low, high), (near, high), (near, low), (low, low),
    )  # fmt: skip


def _heart() -> Points:
    """Return the standard parametric heart, 16 sin^3 t against a sum of cosines."""
    angles = [2 * math.pi * k / 48 for k in range(48)]
    return tuple(
        (
            16 * math.sin(t) ** 3,
            5 * math.cos(2 * t) + 2 * math.cos(3 * t) + math.cos(4 * t) - 13 * math.cos(t),
        )
        for t in angles
    )


_OUTLINES: Mapping[str, Callable[[], Points]] = {
    "square": _square,
    "triangle": _triangle,
    "star": _star,
    "cross": _cross,
    "heart": _heart,
}


def draw_background(background: Background) -> UInt8[np.ndarray, "64 64 3"]:
    """Draw a named tone modulated by its texture; hue and (low) saturation stay constant."""
    tone = np.array(TONES[background.tone], dtype=np.float32)
    shade = _shade(background)
    return np.asarray(np.rint(np.clip(tone + shade[..., None], 0, 255)), dtype=np.uint8)


def _shade(background: Background) -> Float[np.ndarray, "64 64"]:
    if background.texture == "solid":
        return np.zeros((IMAGE_SIZE_PX, IMAGE_SIZE_PX), dtype=np.float32)
    if background.texture == "mottled":
        return _mottle(background.seed)
    row = np.arange(IMAGE_SIZE_PX, dtype=np.float32) + 0.5
    x, y = np.meshgrid(row, row)
    if background.texture == "checks":
        return _two_tone(_wave(x, background.seed) * _wave(y, background.seed))
    along = {"horizontal": x, "vertical": y, "diagonal": (x + y) / 2}[background.direction]
    if background.texture == "gradient":
        sign = 1 if background.seed % 2 else -1
        return np.asarray(sign * _GRADIENT_AMPLITUDE * (2 * along / IMAGE_SIZE_PX - 1))
    return _two_tone(_wave(along, background.seed))


def _two_tone(wave: Float[np.ndarray, "64 64"]) -> Float[np.ndarray, "64 64"]:
    """Turn a wave into nearly flat tones with soft edges, as an anti-aliased pattern has."""
    return np.asarray(_TEXTURE_AMPLITUDE * np.clip(_EDGE_STEEPNESS * wave, -1, 1))


def _wave(along: Float[np.ndarray, "64 64"], seed: int) -> Float[np.ndarray, "64 64"]:
    return np.asarray(np.sin(2 * np.pi * (along / _PERIOD_PX + (seed % 8) / 8)))


def _mottle(seed: int) -> Float[np.ndarray, "64 64"]:
    """Draw smooth noise: 16 x 16 uniform values, enlarged."""
    coarse = np.random.Generator(np.random.PCG64(seed)).random((16, 16)).astype(np.float32) - 0.5
    size = (IMAGE_SIZE_PX, IMAGE_SIZE_PX)
    smooth = Image.fromarray(coarse).resize(size, Image.Resampling.BILINEAR)
    return np.asarray(2 * _TEXTURE_AMPLITUDE * np.asarray(smooth))
