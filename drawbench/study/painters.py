"""Two painters of coloured shapes, for the sample study and every practice item.

No model made them. "Painter Even" draws what the caption says, cleanly. "Painter Odd" gets the
same caption and makes mistakes: wrong colour, wrong number, crooked and smudged shapes. So the
outcome of the study can be checked by eye.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from PIL import Image, ImageDraw, ImageFilter

SIZE_PX = 160
OVERSAMPLING = 2
COLOURS = {
    "red": (222, 52, 48),
    "orange": (245, 140, 30),
    "yellow": (247, 213, 50),
    "green": (52, 168, 83),
    "cyan": (40, 196, 212),
    "blue": (50, 94, 220),
    "purple": (140, 66, 190),
    "pink": (250, 120, 180),
}
GROUNDS = ((244, 241, 234), (233, 238, 243), (238, 243, 233), (243, 234, 238))

Point = tuple[float, float]
Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Scene:
    """The content of a caption: objects as (shape, colour), in a row or a column."""

    objects: tuple[tuple[str, str], ...]
    upright: bool = False
    """One above the other instead of side by side."""


SCENES = {
    "a red circle": Scene((("circle", "red"),)),
    "a green star": Scene((("star", "green"),)),
    "a purple heart": Scene((("heart", "purple"),)),
    "two blue circles": Scene((("circle", "blue"),) * 2),
    "three yellow stars": Scene((("star", "yellow"),) * 3),
    "four red squares": Scene((("square", "red"),) * 4),
    "a red circle left of a blue square": Scene((("circle", "red"), ("square", "blue"))),
    "a blue square left of a red circle": Scene((("square", "blue"), ("circle", "red"))),
    "a green triangle above a yellow ring": Scene(
        (("triangle", "green"), ("ring", "yellow")), upright=True
    ),
    "a pink heart below a cyan circle": Scene(
        (("circle", "cyan"), ("heart", "pink")), upright=True
    ),
    "an orange square": Scene((("square", "orange"),)),
    "two purple triangles": Scene((("triangle", "purple"),) * 2),
}
PRACTICE = ("an orange square", "two purple triangles")


def draw_even(caption: str, draw: Random) -> Image.Image:
    """Draw the scene of a caption cleanly; place, size and background vary with `draw`."""
    return _paint(SCENES[caption], draw, wobble=0.0)


def draw_odd(caption: str, draw: Random) -> Image.Image:
    """Draw the scene of a caption crooked and smudged, with a mistake in two of three pictures."""
    scene = SCENES[caption]
    slip = draw.random()
    if slip < 1 / 3:
        wrong_number = 3 if len(scene.objects) == 4 else len(scene.objects) + 1
        scene = Scene((*scene.objects, scene.objects[-1])[:wrong_number], scene.upright)
    elif slip < 2 / 3:
        other = draw.choice([colour for colour in COLOURS if colour != scene.objects[0][1]])
        scene = Scene(((scene.objects[0][0], other), *scene.objects[1:]), scene.upright)
    return _paint(scene, draw, wobble=0.2).filter(ImageFilter.GaussianBlur(1.6))


def _paint(scene: Scene, draw: Random, *, wobble: float) -> Image.Image:
    side = SIZE_PX * OVERSAMPLING
    picture = Image.new("RGB", (side, side), draw.choice(GROUNDS))
    canvas = ImageDraw.Draw(picture)
    count = len(scene.objects)
    radius = side * (0.34 if count == 1 else 0.43 / count) * draw.uniform(0.8, 1.0)
    for index, (shape, colour) in enumerate(scene.objects):
        along = side * (index + 0.5) / count
        across = side / 2 + draw.uniform(-0.06, 0.06) * side
        centre = (across, along) if scene.upright else (along, across)
        _SHAPES[shape](canvas, _Spot(centre, radius, COLOURS[colour], wobble), draw)
    return picture.resize((SIZE_PX, SIZE_PX), Image.Resampling.LANCZOS)


@dataclass(frozen=True)
class _Spot:
    """Position and look of one object."""

    centre: Point
    radius: float
    colour: Colour
    wobble: float
    """How far corners deviate, as a share of the radius."""


Pen = Callable[[ImageDraw.ImageDraw, _Spot, Random], None]


def _polygon(corners: list[Point]) -> Pen:
    def draw_it(canvas: ImageDraw.ImageDraw, spot: _Spot, draw: Random) -> None:
        def stray() -> float:
            return draw.uniform(-spot.wobble, spot.wobble)

        x_0, y_0 = spot.centre
        points = [
            (x_0 + spot.radius * (x + stray()), y_0 + spot.radius * (y + stray()))
            for x, y in corners
        ]
        canvas.polygon(points, fill=spot.colour)

    return draw_it


def _on_circle(
    count: int, *, start: float = -0.25, radii: tuple[float, ...] = (1.0,)
) -> list[Point]:
    """Return points around a centre, from `start` turns on, with the radii in rotation."""
    return [
        (
            radii[k % len(radii)] * math.cos(2 * math.pi * (start + k / count)),
            radii[k % len(radii)] * math.sin(2 * math.pi * (start + k / count)),
        )
        for k in range(count)
    ]


def _heart() -> list[Point]:
    return [
        (
            math.sin(t) ** 3,
            -(13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)) / 16,
        )
        for t in (2 * math.pi * k / 60 for k in range(60))
    ]


def _ellipse(*, hole: bool) -> Pen:
    def draw_it(canvas: ImageDraw.ImageDraw, spot: _Spot, draw: Random) -> None:
        (x, y), wide = spot.centre, spot.radius
        tall = wide * (1 + draw.uniform(-spot.wobble, spot.wobble))
        box = (x - wide, y - tall, x + wide, y + tall)
        canvas.ellipse(box, outline=spot.colour, width=int(wide * (0.38 if hole else 1.2)))

    return draw_it


_SHAPES: dict[str, Pen] = {
    "circle": _ellipse(hole=False),
    "square": _polygon([(-0.85, -0.85), (0.85, -0.85), (0.85, 0.85), (-0.85, 0.85)]),
    "triangle": _polygon(_on_circle(3)),
    "star": _polygon(_on_circle(10, radii=(1.0, 0.42))),
    "heart": _polygon(_heart()),
    "ring": _ellipse(hole=True),
}
