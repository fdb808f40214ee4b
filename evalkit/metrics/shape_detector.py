"""Read the objects of a `shapes` image off its pixels: no network, only colour and outline.

Objects are saturated, backgrounds are not. In the plane of colour differences (gray is the origin) a
pixel at an object's edge lies on the line from the background to the object's colour, so its distance
along that line is the share of the pixel that the object covers. That share survives blur, resizing
and the wrong brightness. Coverage above one half gives the regions; each region is then compared with
every shape, drawn with the same area, centre and aspect ratio, sharp and blurred. The shape that
overlaps best wins, and its overlap is the confidence.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from PIL import Image, ImageDraw
from scipy import ndimage

from evalkit.datasets.shapes_draw import draw_outline
from evalkit.datasets.shapes_scene import (
    COLOUR_NAMES,
    COLOURS,
    IMAGE_SIZE_PX,
    SHAPES,
    SIZES_PX,
    Box,
)
from evalkit.images import squash

MIN_AREA_PX = 30.0
"""Smaller regions are specks: the smallest object drawn covers about 60 px."""
MIN_CONFIDENCE = 0.6
"""Regions that overlap no shape by this much are blobs, not objects."""
_COVERAGE = 0.5
_NOISE_FLOOR = 0.12
_NEUTRAL_CHROMA = 45.0
_REACH_PX = 3
_BLURS_PX = (0.0, 0.8, 1.6, 2.4)
_ASPECT_LIMIT = 1.25
_STRENGTH_RANGE = (0.7, 1.2)
_SECOND_COLOUR_SHARE = 0.25
_SPLIT_BELOW = 0.85
_SPLIT_COVERAGES = (0.6, 0.7, 0.8, 0.9)
_TEMPLATE_PX = 96

Plane = Float[np.ndarray, "height width"]
Mask = Bool[np.ndarray, "height width"]


@dataclass(frozen=True)
class Detection:
    """One object found in an image."""

    shape: str
    colour: str
    size: str
    box: Box
    """Left, top, right, bottom in px of the 64 px image."""
    area: float
    """Covered area in px of the 64 px image."""
    confidence: float
    """Overlap (soft intersection over union) with the shape, in [0, 1]."""

    @property
    def centre(self) -> tuple[float, float]:
        """Middle of the box, x and y in px."""
        left, top, right, bottom = self.box
        return (left + right) / 2, (top + bottom) / 2


def detect(image: UInt8[np.ndarray, "height width 3"]) -> list[Detection]:
    """The objects of an image, from left to right.

    Args:
        image: RGB 0-255 of any size; it is scaled to 64 x 64 px first.

    Returns:
        Objects whose region is larger than a speck and overlaps a shape well enough.
    """
    chroma = _chroma(squash(image, IMAGE_SIZE_PX).astype(np.float32))
    chroma -= _background_chroma(chroma)
    found = (fit for region in _regions(chroma) for fit in _fit_or_split(region))
    kept = [d for d in found if d.confidence >= MIN_CONFIDENCE]
    return sorted(kept, key=lambda d: (d.box[0], d.box[1]))


def _chroma(rgb: Float[np.ndarray, "*shape 3"]) -> Float[np.ndarray, "*shape 2"]:
    """Colour differences, gray at the origin; the angle is a hue, equal steps to each side."""
    red, green, blue = rgb[..., 0], rgb[..., 1], rgb[..., 2]
    return np.stack([red - (green + blue) / 2, (green - blue) * np.float32(np.sqrt(0.75))], axis=-1)


_PALETTE = _chroma(np.array(list(COLOURS.values()), dtype=np.float32))
_STRENGTHS = np.linalg.norm(_PALETTE, axis=1)
_DIRECTIONS = _PALETTE / _STRENGTHS[:, None]


def _background_chroma(chroma: Float[np.ndarray, "h w 2"]) -> Float[np.ndarray, "2"]:
    """Tint of the background: the median of what is nearly gray."""
    neutral = chroma[np.linalg.norm(chroma, axis=-1) < _NEUTRAL_CHROMA]
    if len(neutral) < chroma[..., 0].size / 10:
        return np.zeros(2, dtype=chroma.dtype)
    return np.median(neutral, axis=0)


@dataclass(frozen=True)
class _Region:
    """Pixels of one colour that hang together, and how much of each pixel they cover."""

    colour: int
    inside: Mask
    coverage: Plane


def _regions(chroma: Float[np.ndarray, "h w 2"]) -> Iterator[_Region]:
    projections = chroma @ _DIRECTIONS.T
    coverage = (projections / _STRENGTHS).max(axis=-1)
    hue = projections.argmax(axis=-1)
    labels = _label(coverage >= _COVERAGE)
    labels = _split_colours(labels, projections, hue)
    numbers = [n for n in range(1, labels.max() + 1) if (labels == n).sum() >= MIN_AREA_PX / 2]
    if not numbers:
        return
    labels = np.where(np.isin(labels, numbers), labels, 0)
    distance, nearest = ndimage.distance_transform_edt(labels == 0, return_indices=True)
    owner = np.where(distance <= _REACH_PX, labels[nearest[0], nearest[1]], 0)
    for number in numbers:
        inside = labels == number
        colour = int((_DIRECTIONS @ chroma[inside].sum(axis=0)).argmax())
        yield _Region(colour, inside, _own_coverage(chroma, inside, owner == number, colour))


def _label(mask: Mask) -> Int[np.ndarray, "height width"]:
    labels, _ = ndimage.label(mask, structure=np.ones((3, 3)))
    return labels


def _split_colours(labels, projections, hue):
    """Give touching regions of different colours labels of their own."""
    for number in range(1, labels.max() + 1):
        inside = labels == number
        area = inside.sum()
        if area < 2 * MIN_AREA_PX:
            continue
        counts = np.bincount(hue[inside], minlength=len(COLOURS))
        strong = np.flatnonzero(counts >= max(MIN_AREA_PX, _SECOND_COLOUR_SHARE * area))
        if len(strong) < 2:
            continue
        choice = strong[projections[..., strong].argmax(axis=-1)]
        labels = np.where(inside, 0, labels)
        for colour in strong:
            own = _label(inside & (choice == colour))
            labels = np.where(own > 0, own + labels.max(), labels)
    return labels


def _own_coverage(chroma, inside, reach, colour):
    mean = chroma[inside].sum(axis=0)
    along = chroma @ (mean / np.linalg.norm(mean))
    low, high = (share * _STRENGTHS[colour] for share in _STRENGTH_RANGE)
    strength = np.clip(np.percentile(along[inside], 90), low, high)
    coverage = np.where(reach, np.clip(along / strength, 0, 1), 0)
    return np.where(coverage < _NOISE_FLOOR, 0, coverage)


def _fit_or_split(region: _Region) -> list[Detection]:
    """Fit one shape; where it fits badly, see whether the region falls into several that fit well."""
    whole = _fit(region.colour, region.coverage)
    if whole is None or whole.confidence >= _SPLIT_BELOW:
        return [whole] if whole else []
    for threshold in _SPLIT_COVERAGES:
        labels = _label(region.inside & (region.coverage >= threshold))
        sizes = np.bincount(labels.ravel())[1:]
        strong = np.flatnonzero(sizes >= MIN_AREA_PX / 3) + 1
        if len(strong) < 2:
            continue
        cores = np.where(np.isin(labels, strong), labels, 0)
        nearest = ndimage.distance_transform_edt(cores == 0, return_distances=False, return_indices=True)
        owner = cores[nearest[0], nearest[1]]
        parts = [_fit(region.colour, np.where(owner == n, region.coverage, 0)) for n in strong]
        parts = [part for part in parts if part]
        if len(parts) >= 2 and np.mean([p.confidence for p in parts]) > whole.confidence + 0.03:
            return parts
    return [whole]


@dataclass(frozen=True)
class _Template:
    """A shape in the unit square: its picture with a margin of one side all round, and its moments."""

    picture: Image.Image
    fill: float
    centre: tuple[float, float]
    spread: tuple[float, float]


@cache
def _template(shape: str) -> _Template:
    side = _TEMPLATE_PX
    picture = Image.new("L", (4 * 3 * side, 4 * 3 * side), 0)
    draw_outline(ImageDraw.Draw(picture), shape, (4 * side, 4 * side), 4 * side)
    picture = picture.reduce(4)
    unit = np.asarray(picture, dtype=np.float64)[side:-side, side:-side] / 255
    mass, centre, spread = _moments(unit)
    return _Template(
        picture,
        mass / side**2,
        (centre[0] / side, centre[1] / side),
        (spread[0] / side, spread[1] / side),
    )


def _moments(plane: Plane):
    """Mass, centre (x, y) and standard deviations (x, y), pixel k spanning k to k + 1."""
    mass = float(plane.sum())
    moments = []
    for axis in (0, 1):
        profile = plane.sum(axis=axis)
        position = np.arange(len(profile)) + 0.5
        mean = float(profile @ position) / mass
        moments.append((mean, float(np.sqrt(profile @ (position - mean) ** 2 / mass))))
    (x, x_spread), (y, y_spread) = moments
    return mass, (x, y), (x_spread, y_spread)


def _fit(colour: int, coverage: Plane) -> Detection | None:
    mass, centre, spread = _moments(coverage) if coverage.sum() > 0 else (0.0, (0, 0), (0, 0))
    if mass < MIN_AREA_PX:
        return None
    boxes = [_matching_box(_template(shape), mass, centre, spread) for shape in SHAPES]
    window = _window(boxes)
    drawn = np.stack([_draw_template(_template(s).picture, b, window) for s, b in zip(SHAPES, boxes, strict=True)])
    left, top, right, bottom = window
    seen = coverage[top:bottom, left:right]
    overlaps = np.stack([_overlap(ndimage.gaussian_filter(drawn, (0, b, b)), seen) for b in _BLURS_PX])
    overlap = overlaps.max(axis=0)
    best = int(overlap.argmax())
    box = boxes[best]
    side = ((box[2] - box[0]) * (box[3] - box[1])) ** 0.5
    size = min(SIZES_PX, key=lambda name: abs(SIZES_PX[name] - side))
    return Detection(SHAPES[best], COLOUR_NAMES[colour], size, box, mass, float(overlap[best]))


def _matching_box(template, mass, centre, spread) -> Box:
    """Where the template has the region's area, centre and (within limits) aspect ratio."""
    aspect = (spread[1] / template.spread[1]) / (spread[0] / template.spread[0])
    aspect = min(max(aspect, 1 / _ASPECT_LIMIT), _ASPECT_LIMIT)
    side = (mass / template.fill) ** 0.5
    width, height = side / aspect**0.5, side * aspect**0.5
    left = centre[0] - width * template.centre[0]
    top = centre[1] - height * template.centre[1]
    return (left, top, left + width, top + height)


def _window(boxes: Sequence[Box]) -> tuple[int, int, int, int]:
    """Whole pixels, inside the image, around all boxes and their blur."""
    corners = np.array(boxes)
    low = np.floor(corners[:, :2].min(axis=0)).astype(int) - _REACH_PX
    high = np.ceil(corners[:, 2:].max(axis=0)).astype(int) + _REACH_PX
    low, high = np.maximum(low, 0), np.minimum(high, IMAGE_SIZE_PX)
    return int(low[0]), int(low[1]), int(high[0]), int(high[1])


def _draw_template(picture: Image.Image, box: Box, window) -> Plane:
    left, top, right, bottom = window
    x_scale = _TEMPLATE_PX / (box[2] - box[0])
    y_scale = _TEMPLATE_PX / (box[3] - box[1])
    source = (
        max(0.0, (left - box[0]) * x_scale + _TEMPLATE_PX),
        max(0.0, (top - box[1]) * y_scale + _TEMPLATE_PX),
        min(3.0 * _TEMPLATE_PX, (right - box[0]) * x_scale + _TEMPLATE_PX),
        min(3.0 * _TEMPLATE_PX, (bottom - box[1]) * y_scale + _TEMPLATE_PX),
    )
    small = picture.resize((right - left, bottom - top), Image.Resampling.BOX, box=source)
    return np.asarray(small, dtype=np.float32) / 255


def _overlap(drawn: Float[np.ndarray, "shapes h w"], seen: Float[np.ndarray, "h w"]):
    """Soft intersection over union of each drawn shape with the coverage."""
    return np.minimum(drawn, seen).sum(axis=(1, 2)) / np.maximum(drawn, seen).sum(axis=(1, 2))
