"""Scenes of the data set `shapes`: their objects, positions and split.

A scene is data, not pixels: one to four objects with shape, colour, size and box, a background, and
the relation that its captions name. All randomness comes from one `random.Random` through its
`random()`, whose sequence Python guarantees, so that a scene is the same everywhere.

Train and validation are disjoint by construction: `split_of` maps each scene to exactly one split
by the scene alone, and `sample_scene` returns only scenes of the requested split.
"""

import hashlib
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, get_args

from evalkit.core.errors import ConfigError

T = TypeVar("T")
Split = Literal["train", "val"]
SceneKind = Literal["single", "relation", "count", "several"]
Box = tuple[float, float, float, float]

IMAGE_SIZE_PX = 64
SHAPES = ("circle", "square", "triangle", "star", "cross", "ring", "heart")
COLOURS: Mapping[str, tuple[int, int, int]] = {
    "red": (222, 30, 38),
    "orange": (250, 126, 16),
    "yellow": (250, 222, 24),
    "green": (36, 170, 66),
    "cyan": (24, 204, 220),
    "blue": (36, 78, 226),
    "purple": (138, 50, 196),
    "pink": (255, 106, 182),
}
COLOUR_NAMES = tuple(COLOURS)
SIZES_PX: Mapping[str, float] = {"small": 15.0, "medium": 20.5, "large": 28.0}
SIZE_NAMES = tuple(SIZES_PX)
SIZE_JITTER_PX = 1.0
RELATIONS = ("left of", "right of", "above", "below")
INVERSE: Mapping[str, str] = {
    "left of": "right of",
    "right of": "left of",
    "above": "below",
    "below": "above",
}
TONES: Mapping[str, tuple[int, int, int]] = {
    "white": (238, 238, 236),
    "gray": (168, 169, 171),
    "dark": (62, 63, 66),
    "beige": (222, 212, 194),
    "slate": (112, 121, 132),
}
TEXTURES = ("solid", "gradient", "stripes", "checks", "mottled")
DIRECTIONS = ("horizontal", "vertical", "diagonal")

KIND_WEIGHTS: Mapping[SceneKind, float] = {
    "single": 0.4,
    "relation": 0.3,
    "count": 0.2,
    "several": 0.1,
}
TEXTURE_WEIGHTS: Mapping[str, float] = {
    "solid": 0.4,
    "gradient": 0.3,
    "stripes": 0.1,
    "checks": 0.1,
    "mottled": 0.1,
}
MARGIN_PX = 1.0
GAP_PX = 4.0
RELATION_DRIFT_PX = 8.0
HELD_OUT_SHARE_OF_VAL = 0.5
HELD_OUT_PAIRS = frozenset(
    {
        ("circle", "purple"),
        ("square", "cyan"),
        ("triangle", "orange"),
        ("star", "green"),
        ("star", "red"),
        ("cross", "pink"),
        ("ring", "yellow"),
        ("heart", "blue"),
    }
)
_RESERVED_RESIDUE = 5
_QUARTER = 0.25


@dataclass(frozen=True)
class SceneObject:
    """One drawn object; `box` is left, top, right, bottom in px of the 64 px image."""

    shape: str
    colour: str
    size: str
    box: Box

    @property
    def centre(self) -> tuple[float, float]:
        """Middle of the box, x and y in px."""
        left, top, right, bottom = self.box
        return (left + right) / 2, (top + bottom) / 2


@dataclass(frozen=True)
class Relation:
    """`objects[subject]` is `relation` ("left of", ...) `objects[object]`."""

    subject: int
    relation: str
    object: int


@dataclass(frozen=True)
class Background:
    """Low-saturation background: a tone, a texture, its direction and the seed of its noise."""

    tone: str
    texture: str
    direction: str
    seed: int


@dataclass(frozen=True)
class Scene:
    """Everything drawn in one image; `held_out`: training never sees such a combination."""

    kind: SceneKind
    objects: tuple[SceneObject, ...]
    relations: tuple[Relation, ...]
    background: Background
    held_out: bool

    @property
    def label(self) -> int | None:
        """Index into `SHAPES` of a single-object scene, for class-conditional models; else None."""
        return SHAPES.index(self.objects[0].shape) if self.kind == "single" else None

    def to_json(self) -> dict[str, Any]:
        """Return plain lists and dictionaries, as the annotation file holds them."""
        return {
            "kind": self.kind,
            "held_out": self.held_out,
            "objects": [{**vars(item), "box": list(item.box)} for item in self.objects],
            "relations": [dict(vars(relation)) for relation in self.relations],
            "background": dict(vars(self.background)),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Scene":
        """Rebuild the scene that `to_json` wrote."""
        return cls(
            kind=data["kind"],
            objects=tuple(SceneObject(**{**o, "box": tuple(o["box"])}) for o in data["objects"]),
            relations=tuple(Relation(**relation) for relation in data["relations"]),
            background=Background(**data["background"]),
            held_out=data["held_out"],
        )


class Dice:
    """Random choices from `random.Random.random()` alone, the method with a guaranteed sequence."""

    def __init__(self, *parts: object) -> None:
        digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
        self._random = random.Random(int.from_bytes(digest[:8], "big"))  # noqa: S311 drawing, no secrets

    def uniform(self, low: float, high: float) -> float:
        """Draw a number in [low, high)."""
        return low + (high - low) * self._random.random()

    def below(self, count: int) -> int:
        """Draw an integer in 0 .. count - 1."""
        return int(self._random.random() * count)

    def pick(self, options: Sequence[T]) -> T:
        """Draw one of the options, all equally likely."""
        return options[self.below(len(options))]

    def weighted(self, weights: Mapping[T, float]) -> T:
        """Draw one of the keys with probability proportional to its weight."""
        point = self._random.random() * sum(weights.values())
        for option, weight in weights.items():
            point -= weight
            if point < 0:
                return option
        return option

    def shuffled(self, options: Sequence[T]) -> list[T]:
        """Return the options in random order."""
        rest = list(options)
        return [rest.pop(self.below(len(rest))) for _ in options]


def is_held_out(objects: Sequence[SceneObject], relations: Sequence[Relation]) -> bool:
    """Return whether a scene has a (shape, colour) or (shape, colour, relation) kept from training.

    A relation is read from both sides: "a red ring left of a blue star" also puts the star right of
    the ring.
    """
    if any((item.shape, item.colour) in HELD_OUT_PAIRS for item in objects):
        return True
    for relation in relations:
        subject, other = objects[relation.subject], objects[relation.object]
        if _is_reserved(subject, relation.relation) or _is_reserved(
            other, INVERSE[relation.relation]
        ):
            return True
    return False


def _is_reserved(item: SceneObject, relation: str) -> bool:
    """Return True for at most one relation of each (shape, colour): one eighth of all triples."""
    code = (
        2 * SHAPES.index(item.shape)
        + COLOUR_NAMES.index(item.colour)
        + 3 * RELATIONS.index(relation)
    )
    return code % 8 == _RESERVED_RESIDUE


def split_of(scene: Scene) -> Split:
    """Return the only split a scene may appear in: "val" if held out, else for one in eight."""
    if scene.held_out:
        return "val"
    digest = hashlib.sha256(json.dumps(scene.to_json(), sort_keys=True).encode()).digest()
    return "val" if digest[0] % 8 == 0 else "train"


def sample_scene(seed: int, split: Split, index: int) -> Scene:
    """Sample scene number `index` of a split; the same arguments give the same scene anywhere."""
    if split not in get_args(Split):
        raise ConfigError(f"Unknown split {split!r} of shapes; choose 'train' or 'val'.")
    dice = Dice("shapes", seed, split, index)
    held_out = split == "val" and dice.uniform(0.0, 1.0) < HELD_OUT_SHARE_OF_VAL
    kind = dice.weighted(KIND_WEIGHTS)
    while True:
        scene = _draw_scene(dice, kind)
        if scene.held_out == held_out and split_of(scene) == split:
            return scene


def _draw_scene(dice: Dice, kind: SceneKind) -> Scene:
    relations: tuple[Relation, ...] = ()
    if kind == "single":
        objects = _place(dice, _draw_kinds(dice, 1), SIZE_NAMES)
    elif kind == "relation":
        relation = dice.pick(RELATIONS)
        objects = _place_related(dice, _draw_kinds(dice, 2), relation)
        relations = (Relation(0, relation, 1),)
    elif kind == "count":
        count = dice.pick((2, 3, 4))
        sizes = [dice.pick(SIZE_NAMES if count == 2 else SIZE_NAMES[:2])]
        objects = _place(dice, _draw_kinds(dice, 1) * count, sizes)
    else:
        objects = _place(dice, _draw_kinds(dice, dice.pick((3, 3, 4))), SIZE_NAMES[:2])
    background = Background(
        tone=dice.pick(tuple(TONES)),
        texture=dice.weighted(TEXTURE_WEIGHTS),
        direction=dice.pick(DIRECTIONS),
        seed=dice.below(2**31),
    )
    return Scene(kind, objects, relations, background, is_held_out(objects, relations))


def _draw_kinds(dice: Dice, count: int) -> list[tuple[str, str]]:
    """Draw (shape, colour) of each object; colours differ, so that captions are unambiguous."""
    colours = dice.shuffled(COLOUR_NAMES)[:count]
    return [(dice.pick(SHAPES), colour) for colour in colours]


def _draw_side(dice: Dice, size: str) -> float:
    side = SIZES_PX[size] + dice.uniform(-SIZE_JITTER_PX, SIZE_JITTER_PX)
    return _to_quarter(side)


def _to_quarter(value: float) -> float:
    """Round to the grid of the four-fold supersampled drawing."""
    return round(value / _QUARTER) * _QUARTER


def _square_box(left: float, top: float, side: float) -> Box:
    left, top = _to_quarter(left), _to_quarter(top)
    return (left, top, left + side, top + side)


def _place(
    dice: Dice, kinds: Sequence[tuple[str, str]], sizes: Sequence[str]
) -> tuple[SceneObject, ...]:
    """Place objects at random, at least `GAP_PX` apart."""
    names = [dice.pick(sizes) for _ in kinds]
    sides = [_draw_side(dice, name) for name in names]
    layout = {2: _pair_boxes, 4: _grid_boxes}.get(len(kinds), _free_boxes)
    return tuple(
        SceneObject(shape, colour, name, box)
        for (shape, colour), name, box in zip(kinds, names, layout(dice, sides), strict=True)
    )


def _free_boxes(dice: Dice, sides: Sequence[float]) -> list[Box]:
    """Place boxes anywhere by rejection; fast for up to three objects of at most medium size."""
    boxes: list[Box] = []
    while len(boxes) < len(sides):
        boxes = []
        for side in sides:
            box = _square_box(_draw_start(dice, side), _draw_start(dice, side), side)
            if any(not _apart(box, other) for other in boxes):
                break
            boxes.append(box)
    return boxes


def _draw_start(dice: Dice, side: float) -> float:
    return dice.uniform(MARGIN_PX, IMAGE_SIZE_PX - MARGIN_PX - side)


def _apart(one: Box, other: Box) -> bool:
    return (
        one[0] >= other[2] + GAP_PX
        or other[0] >= one[2] + GAP_PX
        or one[1] >= other[3] + GAP_PX
        or other[1] >= one[3] + GAP_PX
    )


def _pair_boxes(dice: Dice, sides: Sequence[float]) -> list[Box]:
    """Place two boxes apart along one axis, anywhere along the other."""
    along = _spread_along(dice, sides)
    across = [_draw_start(dice, side) for side in sides]
    xs, ys = (along, across) if dice.below(2) else (across, along)
    return [_square_box(x, y, side) for x, y, side in zip(xs, ys, sides, strict=True)]


def _spread_along(dice: Dice, sides: Sequence[float]) -> list[float]:
    """Draw the starts of two boxes along one axis, at least the gap apart."""
    slack = IMAGE_SIZE_PX - 2 * MARGIN_PX - GAP_PX - sum(sides)
    lead = dice.uniform(0.0, slack)
    first = MARGIN_PX + lead
    return [first, first + sides[0] + GAP_PX + dice.uniform(0.0, slack - lead)]


def _grid_boxes(dice: Dice, sides: Sequence[float]) -> list[Box]:
    """Place four boxes, each at random inside its cell of a 2 x 2 grid."""
    half = IMAGE_SIZE_PX / 2
    room = half - MARGIN_PX - GAP_PX / 2
    starts = (MARGIN_PX, half + GAP_PX / 2)
    cells = dice.shuffled([(x, y) for y in starts for x in starts])
    return [
        _square_box(x + dice.uniform(0.0, room - side), y + dice.uniform(0.0, room - side), side)
        for (x, y), side in zip(cells, sides, strict=True)
    ]


def _place_related(
    dice: Dice, kinds: Sequence[tuple[str, str]], relation: str
) -> tuple[SceneObject, ...]:
    """Place two objects of which the first clearly is `relation` the second.

    They are separated by the gap along that axis and nearly level along the other (their centres
    differ by at most `RELATION_DRIFT_PX`).
    """
    names = [dice.pick(SIZE_NAMES) for _ in kinds]
    sides = [_draw_side(dice, name) for name in names]
    step = 1 if relation in ("left of", "above") else -1
    along = _spread_along(dice, sides[::step])[::step]
    across = _draw_level(dice, sides)
    xs, ys = (along, across) if relation in ("left of", "right of") else (across, along)
    return tuple(
        SceneObject(shape, colour, name, _square_box(x, y, side))
        for (shape, colour), name, x, y, side in zip(kinds, names, xs, ys, sides, strict=True)
    )


def _draw_level(dice: Dice, sides: Sequence[float]) -> list[float]:
    """Draw starts across the relation's axis whose centres differ by at most the allowed drift."""
    low, high = MARGIN_PX + max(sides) / 2, IMAGE_SIZE_PX - MARGIN_PX - max(sides) / 2
    centre = dice.uniform(low, high)
    drifted = centre + dice.uniform(-RELATION_DRIFT_PX, RELATION_DRIFT_PX)
    return [centre - sides[0] / 2, min(max(drifted, low), high) - sides[1] / 2]
