"""Which images are one draw, by what ties them together, and which images are copies.

Images are tied by the reference image that they belong to, by their caption, and by their file:
equal hashes are the same image. An id means something only within its kind, so caption 7 is not
image 7. Ties join: a sample of caption 12 that is a copy of image 7 ties that caption to image 7.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from evalkit.features.sources import ImageItem

Ties = tuple[str, ...]
"""What ties an image to others, each with its kind: `image 7`, `caption 12`, `file 3f2a...`."""
_KINDS = ("image", "caption", "file")
"""Kinds of ties; the first one that a draw has gives it its name."""


def ties_of(*, image_id: str | None, caption_id: str | None, sha256: str | None) -> Ties:
    """Name what ties one image to others.

    >>> ties_of(image_id=None, caption_id="7", sha256="3f")
    ('caption 7', 'file 3f')
    """
    found = zip(_KINDS, (image_id, caption_id, sha256), strict=True)
    return tuple(f"{kind} {name}" for kind, name in found if name is not None)


def ties_of_items(
    items: Sequence[ImageItem], sha256s: Sequence[str | None] | None = None
) -> list[Ties]:
    """Name what ties each image of a set to others; without hashes, only ids do."""
    hashes = [None] * len(items) if sha256s is None else sha256s
    return [
        ties_of(image_id=item.image_id, caption_id=item.caption_id, sha256=sha256)
        for item, sha256 in zip(items, hashes, strict=True)
    ]


def joined_draws(*sets: Sequence[Ties]) -> list[list[str]]:
    """Name the draw of each image; images that share a tie, or a chain of ties, are one draw.

    Args:
        sets: The ties of each set's images; an image without any is its own draw.

    Returns:
        A name for each image of each set. It depends only on what is tied together, not on order.

    >>> samples, reference = [("caption 7", "file a")], [("image 7", "file b")]
    >>> joined_draws(samples, reference)
    [['caption 7'], ['image 7']]
    >>> joined_draws([("caption 7", "file b")], reference)
    [['image 7'], ['image 7']]
    """
    parents: dict[str, str] = {}

    def root(tie: str) -> str:
        while parents[tie] != tie:
            parents[tie] = parents[parents[tie]]
            tie = parents[tie]
        return tie

    for ties in (ties for one in sets for ties in one):
        for tie in ties:
            parents.setdefault(tie, tie)
        for other in ties[1:]:
            parents[root(other)] = root(ties[0])
    names: dict[str, str] = {}
    for tie in parents:
        at = root(tie)
        names[at] = min(names.get(at, tie), tie, key=_order)
    return [
        [names[root(ties[0])] if ties else f"set {place}, image {i}" for i, ties in enumerate(one)]
        for place, one in enumerate(sets)
    ]


def _order(tie: str) -> tuple[int, str]:
    return _KINDS.index(tie.partition(" ")[0]), tie


@dataclass(frozen=True, kw_only=True)
class Copies:
    """How many images of samples and reference are copies, by the hashes of their files."""

    samples_in_reference: int = 0
    """Samples that are images of the reference."""
    repeated_samples: int = 0
    """Samples that are copies of another sample, the first of them not counted."""
    repeated_reference: int = 0
    """The same within the reference."""

    @classmethod
    def of(cls, samples: Sequence[str], reference: Sequence[str] = ()) -> Copies:
        """Count them from the hashes of both sets.

        >>> Copies.of(["a", "b", "b"], ["b", "c"])
        Copies(samples_in_reference=2, repeated_samples=1, repeated_reference=0)
        """
        known = set(reference)
        return cls(
            samples_in_reference=sum(name in known for name in samples),
            repeated_samples=len(samples) - len(set(samples)),
            repeated_reference=len(reference) - len(known),
        )

    def found(self) -> dict[str, int]:
        """Return the counts that are not 0, by their names."""
        return {name: count for name, count in asdict(self).items() if count}
