"""Detect the objects of a `shapes` image by colour and outline, without a network.

Objects are saturated, backgrounds are not. In the plane of colour differences (gray is the origin)
a pixel at an object's edge lies on the line from the background to the object's colour, so its
distance along that line is the share of the pixel that the object covers. That share survives blur,
resizing and the wrong brightness. Coverage above one half gives the regions; each region is then
compared with every shape, drawn with the same area, centre and aspect ratio, sharp and blurred. The
shape that overlaps best wins, and its overlap is the confidence.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from PIL import Image, ImageDraw
from scipy import ndimage

from evalkit.core.pixels import squash
from evalkit.datasets.shapes.draw import draw_outline
from evalkit.datasets.shapes.scene import (
    COLOUR_NAMES,
    COLOURS,
    IMAGE_SIZE_PX,
    SHAPES,
    SIZES_PX,
    Box,
)

MIN_AREA_PX = 30.0
"""Smaller regions are specks: the smallest object drawn covers about 60 px."""
MIN_CONFIDENCE = 0.75
"""Regions that overlap no shape by this much are blobs, not objects."""
_COVERAGE = 0.5
_NOISE_FLOOR = 0.12
_NEUTRAL_CHROMA = 45.0
_REACH_PX = 3
_BLURS_PX = (0.0, 0.8, 1.6, 2.4)
_ASPECT_LIMIT = 1.25
_STRENGTH_RANGE = (0.7, 1.2)
_SECOND_COLOUR_SHARE = 0.25
_GOOD_FIT = 0.85
_SPLIT_COVERAGES = (0.6, 0.7, 0.8, 0.9)
_SPLIT_GAIN = 0.03
_SMALLEST_SIDE_PX = 13.5
_TOO_SMALL_PENALTY = 0.03
_TEMPLATE_PX = 96

Plane = Float[np.ndarray, "height width"]
Mask = Bool[np.ndarray, "height width"]
Labels = Int[np.ndarray, "height width"]
Chroma = Float[np.ndarray, "height width 2"]
Window = tuple[int, int, int, int]


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
    """Detect the objects of an image, from left to right.

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
    """Compute colour differences: gray is the origin, the angle the hue."""
    red, green, blue = rgb[..., 0], rgb[..., 1], rgb[..., 2]
    return np.stack([red - (green + blue) / 2, (green - blue) * np.float32(np.sqrt(0.75))], axis=-1)


_PALETTE = _chroma(np.array(list(COLOURS.values()), dtype=np.float32))
_STRENGTHS = np.linalg.norm(_PALETTE, axis=1)
_DIRECTIONS = _PALETTE / _STRENGTHS[:, None]


def _background_chroma(chroma: Chroma) -> Float[np.ndarray, "2"]:
    """Estimate the background's tint as the median of nearly gray pixels."""
    neutral = chroma[np.linalg.norm(chroma, axis=-1) < _NEUTRAL_CHROMA]
    if len(neutral) < chroma[..., 0].size / 10:
        return np.zeros(2, dtype=chroma.dtype)
    return np.asarray(np.median(neutral, axis=0))


@dataclass(frozen=True)
class _Region:
    """Connected pixels of one colour."""

    colour: int
    inside: Mask
    along: Plane
    """How far each nearby pixel lies from gray towards the region's own colour."""
    strengths: tuple[float, float]
    """Strength of full coverage: the region's maximum, and the palette colour's.

    The first suits pale objects, the second small, blurred ones that never reach full strength.
    """


def _regions(chroma: Chroma) -> Iterator[_Region]:
    projections = chroma @ _DIRECTIONS.T
    labels = _label((projections / _STRENGTHS).max(axis=-1) >= _COVERAGE)
    labels = _split_colours(labels, projections)
    areas = np.bincount(labels.ravel())
    numbers = [n for n in range(1, len(areas)) if areas[n] >= MIN_AREA_PX / 2]
    owner = _nearest_label(np.where(np.isin(labels, numbers), labels, 0), float(_REACH_PX))
    for number in numbers:
        yield _make_region(chroma, labels == number, owner == number)


def _make_region(chroma: Chroma, inside: Mask, reach: Mask) -> _Region:
    mean = chroma[inside].sum(axis=0)
    colour = int((_DIRECTIONS @ mean).argmax())
    along = chroma @ (mean / np.linalg.norm(mean))
    full = float(_STRENGTHS[colour])
    low, high = _STRENGTH_RANGE
    own = float(np.clip(np.percentile(along[inside], 90), low * full, high * full))
    return _Region(colour, inside, np.where(reach, along, 0), (own, full))


def _label(mask: Mask) -> Labels:
    labels, _ = ndimage.label(mask, structure=np.ones((3, 3)))
    return np.asarray(labels)


def _nearest_label(labels: Labels, reach_px: float) -> Labels:
    """Return each pixel's nearest label, or 0 beyond `reach_px`."""
    if not labels.any():
        return labels
    distance, (rows, columns) = ndimage.distance_transform_edt(labels == 0, return_indices=True)
    return np.where(distance <= reach_px, labels[rows, columns], 0)


def _split_colours(labels: Labels, projections: Float[np.ndarray, "height width 8"]) -> Labels:
    """Give touching regions of different colours labels of their own.

    A second colour counts if it is neither a speck nor a fringe of the first.
    """
    hue = projections.argmax(axis=-1)
    for number in range(1, labels.max() + 1):
        inside = labels == number
        counts = np.bincount(hue[inside], minlength=len(COLOURS))
        least = max(MIN_AREA_PX, _SECOND_COLOUR_SHARE * counts.sum())
        strong = np.flatnonzero(counts >= least)
        if len(strong) < 2:
            continue
        choice = strong[projections[..., strong].argmax(axis=-1)]
        labels = np.where(inside, 0, labels)
        for colour in strong:
            own = _label(inside & (choice == colour))
            labels = np.where(own > 0, own + labels.max(), labels)
    return labels


def _fit_or_split(region: _Region) -> list[Detection]:
    """Fit one shape; if it fits badly, try to split the region into parts that fit better."""
    whole = _fit(region)
    if whole is None or whole.confidence >= _GOOD_FIT:
        return [whole] if whole else []
    for threshold in _SPLIT_COVERAGES:
        parts = [part for piece in _pieces(region, threshold) if (part := _fit(piece))]
        mean = sum(part.confidence for part in parts) / max(len(parts), 1)
        if len(parts) >= 2 and mean > whole.confidence + _SPLIT_GAIN:
            return parts
    return [whole]


def _pieces(region: _Region, threshold: float) -> list[_Region]:
    """Split the region into the parts that remain above a higher coverage threshold."""
    labels = _label(region.inside & (region.along >= threshold * region.strengths[0]))
    areas = np.bincount(labels.ravel())
    numbers = [n for n in range(1, len(areas)) if areas[n] >= MIN_AREA_PX / 3]
    if len(numbers) < 2:
        return []
    owner = _nearest_label(np.where(np.isin(labels, numbers), labels, 0), np.inf)
    return [
        replace(region, inside=labels == n, along=np.where(owner == n, region.along, 0))
        for n in numbers
    ]


def _fit(region: _Region) -> Detection | None:
    """Fit the shape that overlaps the region best; None for a speck."""
    own, full = region.strengths
    fit = _fit_coverage(region.colour, region.along / own)
    if fit is not None and fit.confidence < _GOOD_FIT:
        other = _fit_coverage(region.colour, region.along / full)
        if other is not None and other.confidence > fit.confidence:
            return other
    return fit


def _fit_coverage(colour: int, coverage: Plane) -> Detection | None:
    seen = np.where(coverage < _NOISE_FLOOR, 0, np.minimum(coverage, 1))
    if seen.sum() < MIN_AREA_PX:
        return None
    moments = _moments(seen)
    boxes = [_matching_box(_template(shape), moments) for shape in SHAPES]
    window = _window_around(boxes)
    drawn = np.stack(
        [_draw(_template(s).picture, b, window) for s, b in zip(SHAPES, boxes, strict=True)]
    )
    left, top, right, bottom = window
    overlap = _overlap(drawn, seen[top:bottom, left:right])
    sides = np.array([((b[2] - b[0]) * (b[3] - b[1])) ** 0.5 for b in boxes])
    # A blurred small star looks like a still smaller disc, but no object is that small.
    best = int((overlap - _TOO_SMALL_PENALTY * np.maximum(0, _SMALLEST_SIDE_PX - sides)).argmax())
    size = min(SIZES_PX, key=lambda name: abs(SIZES_PX[name] - sides[best]))
    return Detection(
        shape=SHAPES[best],
        colour=COLOUR_NAMES[colour],
        size=size,
        box=boxes[best],
        area=moments.mass,
        confidence=float(overlap[best]),
    )


@dataclass(frozen=True)
class _Moments:
    """Mass, centre and standard deviations (x, y) of a plane whose pixel k spans k to k + 1."""

    mass: float
    centre: tuple[float, float]
    spread: tuple[float, float]


def _moments(plane: Plane) -> _Moments:
    x, x_spread = _profile_moments(plane.sum(axis=0))
    y, y_spread = _profile_moments(plane.sum(axis=1))
    return _Moments(float(plane.sum()), (x, y), (x_spread, y_spread))


def _profile_moments(profile: Float[np.ndarray, " length"]) -> tuple[float, float]:
    position = np.arange(len(profile)) + 0.5
    mean = float(profile @ position / profile.sum())
    return mean, float(np.sqrt(profile @ (position - mean) ** 2 / profile.sum()))


@dataclass(frozen=True)
class _Template:
    """A shape drawn large, with a margin of one side all around; moments in units of its side."""

    picture: Image.Image
    fill: float
    centre: tuple[float, float]
    spread: tuple[float, float]


@cache
def _template(shape: str) -> _Template:
    side, scale = _TEMPLATE_PX, 4
    large = float(side * scale)
    picture = Image.new("L", (3 * side * scale, 3 * side * scale), 0)
    draw_outline(ImageDraw.Draw(picture), shape, (large, large), large)
    picture = picture.reduce(scale)
    found = _moments(np.asarray(picture, dtype=np.float64)[side:-side, side:-side] / 255)
    return _Template(
        picture,
        fill=found.mass / side**2,
        centre=(found.centre[0] / side, found.centre[1] / side),
        spread=(found.spread[0] / side, found.spread[1] / side),
    )


def _matching_box(template: _Template, seen: _Moments) -> Box:
    """Return the box that gives the template the region's area, centre and aspect ratio."""
    aspect = (seen.spread[1] / template.spread[1]) / (seen.spread[0] / template.spread[0])
    aspect = min(max(aspect, 1 / _ASPECT_LIMIT), _ASPECT_LIMIT)
    side = (seen.mass / template.fill) ** 0.5
    width, height = side / aspect**0.5, side * aspect**0.5
    left = seen.centre[0] - width * template.centre[0]
    top = seen.centre[1] - height * template.centre[1]
    return (left, top, left + width, top + height)


def _window_around(boxes: Sequence[Box]) -> Window:
    """Return the pixel window around all boxes and their blur: left, top, right, bottom."""
    corners = np.array(boxes)
    low = np.maximum(np.floor(corners[:, :2].min(axis=0)).astype(int) - _REACH_PX, 0)
    high = np.ceil(corners[:, 2:].max(axis=0)).astype(int) + _REACH_PX
    high = np.minimum(high, IMAGE_SIZE_PX)
    return int(low[0]), int(low[1]), int(high[0]), int(high[1])


def _draw(picture: Image.Image, box: Box, window: Window) -> Plane:
    """Draw the template into the box and return its coverage of each pixel in the window."""
    x_scale, y_scale = _TEMPLATE_PX / (box[2] - box[0]), _TEMPLATE_PX / (box[3] - box[1])
    left, top, right, bottom = window
    limit = 3.0 * _TEMPLATE_PX
    source = (
        max(0.0, (left - box[0]) * x_scale + _TEMPLATE_PX),
        max(0.0, (top - box[1]) * y_scale + _TEMPLATE_PX),
        min(limit, (right - box[0]) * x_scale + _TEMPLATE_PX),
        min(limit, (bottom - box[1]) * y_scale + _TEMPLATE_PX),
    )
    small = picture.resize((right - left, bottom - top), Image.Resampling.BOX, box=source)
    return np.asarray(small, dtype=np.float32) / 255


def _overlap(drawn: Float[np.ndarray, "shapes h w"], seen: Plane) -> Float[np.ndarray, " shapes"]:
    """Compute each drawn shape's soft intersection over union with the image, at its best blur."""
    overlaps = []
    for blur in _BLURS_PX:
        soft = ndimage.gaussian_filter(drawn, (0, blur, blur))
        both, either = np.minimum(soft, seen), np.maximum(soft, seen)
        overlaps.append(both.sum(axis=(1, 2)) / either.sum(axis=(1, 2)))
    return np.asarray(np.max(overlaps, axis=0))
