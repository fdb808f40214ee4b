"""Captions of `shapes`: five different sentences for each scene, from a closed vocabulary.

Every caption names every object's shape and colour, and the scene's relation or count. Some also
name sizes or the background; `mentions` says which, since a model can only be scored on what its
caption says.
"""

from collections.abc import Sequence

from evalkit.datasets.shapes.scene import INVERSE, SIZE_NAMES, Dice, Scene, SceneObject

CAPTIONS_PER_IMAGE = 5
_COUNT_WORDS = {2: "two", 3: "three", 4: "four"}
_TEXTURE_WORDS = {
    "solid": "plain",
    "gradient": "shaded",
    "stripes": "striped",
    "checks": "checked",
    "mottled": "mottled",
}
_PHRASES = {
    "left of": ("left of", "to the left of"),
    "right of": ("right of", "to the right of"),
    "above": ("above", "over"),
    "below": ("below", "under"),
}
_SENTENCE_SHARE = 0.3


def write_captions(scene: Scene, dice: Dice) -> list[str]:
    """Write five distinct captions; about a third are sentences with a capital and a full stop."""
    texts = dice.shuffled(_paraphrases(scene, dice))[:CAPTIONS_PER_IMAGE]
    return [_as_sentence(t) if dice.uniform(0.0, 1.0) < _SENTENCE_SHARE else t for t in texts]


def mentions(caption: str) -> frozenset[str]:
    """Return which optional facts a caption states: "size", "background"."""
    words = set(caption.lower().rstrip(".").replace(",", "").split())
    found = {"size"} if words & set(SIZE_NAMES) else set()
    return frozenset(found | ({"background"} if "background" in words else set()))


def _as_sentence(text: str) -> str:
    return text[0].upper() + text[1:] + "."


def _paraphrases(scene: Scene, dice: Dice) -> list[str]:
    if scene.kind == "single":
        return _of_single(scene)
    if scene.kind == "relation":
        return _of_relation(scene)
    if scene.kind == "count":
        return _of_count(scene)
    return _of_several(scene, dice)


def _with_article(words: str) -> str:
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def _name(item: SceneObject) -> str:
    return _with_article(f"{item.colour} {item.shape}")


def _sized_name(item: SceneObject) -> str:
    return _with_article(f"{item.size} {item.colour} {item.shape}")


def _behind(scene: Scene) -> str:
    texture = _TEXTURE_WORDS[scene.background.texture]
    return f"on {_with_article(f'{texture} {scene.background.tone} background')}"


def _plural(shape: str) -> str:
    return shape + ("es" if shape.endswith("s") else "s")


def _of_single(scene: Scene) -> list[str]:
    item = scene.objects[0]
    name, sized, behind = _name(item), _sized_name(item), _behind(scene)
    return [
        name,
        sized,
        f"one {item.colour} {item.shape}",
        f"a single {item.colour} {item.shape}",
        f"a picture of {name}",
        f"an image of {sized}",
        f"a drawing of {name}",
        f"there is {name}",
        f"{name} {behind}",
        f"{sized} {behind}",
    ]


def _of_count(scene: Scene) -> list[str]:
    item = scene.objects[0]
    number, behind = _COUNT_WORDS[len(scene.objects)], _behind(scene)
    name = f"{number} {item.colour} {_plural(item.shape)}"
    sized = f"{number} {item.size} {item.colour} {_plural(item.shape)}"
    return [
        name,
        sized,
        f"a picture of {name}",
        f"an image of {sized}",
        f"a drawing of {name}",
        f"a group of {name}",
        f"there are {name}",
        f"{name} {behind}",
        f"{sized} {behind}",
    ]


def _of_relation(scene: Scene) -> list[str]:
    relation = scene.relations[0]
    one, other = scene.objects[relation.subject], scene.objects[relation.object]
    a, b = _name(one), _name(other)
    near, longer = _PHRASES[relation.relation]
    back, longer_back = _PHRASES[INVERSE[relation.relation]]
    return [
        f"{a} {near} {b}",
        f"{a} {longer} {b}",
        f"{b} {back} {a}",
        f"{b} {longer_back} {a}",
        f"a picture of {a} {near} {b}",
        f"there is {a} {longer} {b}",
        f"an image of {b} {back} {a}",
        f"{_sized_name(one)} {near} {_sized_name(other)}",
        f"{_sized_name(other)} {back} {_sized_name(one)}",
        f"{a} {near} {b} {_behind(scene)}",
    ]


def _listed(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}"


def _of_several(scene: Scene, dice: Dice) -> list[str]:
    """List the objects in different orders; all templates differ, so all captions do."""

    def listed() -> str:
        return _listed([_name(item) for item in dice.shuffled(scene.objects)])

    sized = _listed([_sized_name(item) for item in dice.shuffled(scene.objects)])
    return [
        listed(),
        sized,
        f"a picture of {listed()}",
        f"there is {listed()}",
        f"an image of {listed()}",
        f"a drawing of {listed()}",
        f"{_COUNT_WORDS[len(scene.objects)]} objects, {listed()}",
        f"{listed()} {_behind(scene)}",
    ]
