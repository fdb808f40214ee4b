"""Requests for models without captions: classes as frequent as in the reference, or just images.

The requests are `Caption`s without a text. Their ids name no image of the data set, so they are
independent draws, and their number is unlimited.
"""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from evalkit.core.errors import ConfigError, DataError
from evalkit.datasets.base import Caption, CaptionedFiles, CaptionedImages, copy_of

CLASS_RULE = (
    "labels as frequent as in the reference, largest remainders, ties by sha256(seed/class)"
)
PLAIN_RULE = "n samples, numbered"


def image_labels(dataset: CaptionedImages) -> dict[str, int]:
    """Return the class of each image that has one.

    The class comes from the table of captions. A folder without captions is read in ImageNet's
    layout: its subfolders in alphabetical order are the classes 0, 1, ...
    """
    labels = {c.image_id: c.label for c in dataset.captions if c.label is not None}
    if labels or dataset.captions:
        return labels
    folders = {i: i.rpartition("/")[0] for i in dataset.image_ids}
    if not all(folders.values()):
        return {}
    numbers = {folder: number for number, folder in enumerate(sorted(set(folders.values())))}
    return {image_id: numbers[folder] for image_id, folder in folders.items()}


def labelled_part(
    dataset: CaptionedImages, num_classes: int, chosen: Sequence[int] = ()
) -> tuple[CaptionedFiles, dict[str, int]]:
    """Return the images that have a class, as a data set of the same name, with their classes.

    Args:
        dataset: The reference.
        num_classes: Number of the model's classes.
        chosen: The model's classes that are wanted. They select images by the classes of a table;
            of a folder in ImageNet's layout they say, in alphabetical order, what its subfolders
            are. Empty: all classes.

    Raises:
        DataError: No image has a class.
        ConfigError: The model lacks some classes, or the folder has another number of them.
    """
    labels = image_labels(dataset)
    if chosen and labels:
        labels = _chosen_labels(dataset, labels, chosen)
    if not labels:
        raise DataError(
            f"{dataset.name}: no image has a class, but the model needs one. Give a folder with a "
            "subfolder for each class, or captions with a 'label'."
        )
    known = set(labels.values())
    if max(known) >= num_classes or min(known) < 0:
        raise ConfigError(
            f"{dataset.name} has the classes {min(known)} to {max(known)}, but the model has 0 to "
            f"{num_classes - 1}."
        )
    if not chosen and not dataset.captions and len(known) != num_classes:
        raise ConfigError(
            f"{dataset.name} has {len(known)} subfolders, but the model has {num_classes} classes. "
            "Give one subfolder for each class, or say with --labels which classes they are, in "
            "alphabetical order."
        )
    files = {image_id: str(dataset.image_path(image_id)) for image_id in labels}
    root = dataset.image_path(next(iter(labels))).anchor
    captions = tuple(c for c in dataset.captions if c.image_id in labels)
    return CaptionedFiles(dataset.name, Path(root), captions, files, copy_of(dataset)), labels


def _chosen_labels(
    dataset: CaptionedImages, labels: Mapping[str, int], chosen: Sequence[int]
) -> dict[str, int]:
    if len(set(chosen)) < len(chosen):
        raise ConfigError(f"--labels beside --data must differ, got {', '.join(map(str, chosen))}.")
    known = set(labels.values())
    if not dataset.captions:
        if len(chosen) != len(known):
            raise ConfigError(
                f"--labels names {len(chosen)} classes, but {dataset.name} has {len(known)} "
                "subfolders. Name one for each, in alphabetical order."
            )
        return {image_id: chosen[number] for image_id, number in labels.items()}
    if missing := sorted(set(chosen) - known):
        raise ConfigError(
            f"--labels: {dataset.name} has no image of class {missing[0]}; its classes are "
            f"{', '.join(map(str, sorted(known)[:20]))}{', ...' if len(known) > 20 else ''}."
        )
    return {image_id: label for image_id, label in labels.items() if label in set(chosen)}


def label_quotas(labels: Mapping[str, int], n: int, seed: int) -> dict[int, int]:
    """Return how many of n samples each class gets: its share, rounded by the largest remainders.

    Among equal remainders the seed decides: the number of a class would prefer the first classes,
    which in ImageNet are fish and birds.

    >>> label_quotas({"a": 0, "b": 0, "c": 1}, 4, seed=0)
    {0: 3, 1: 1}
    """

    def rank(label: int) -> bytes:
        return hashlib.sha256(f"{seed}/{label}".encode()).digest()

    counts = sorted(Counter(labels.values()).items())
    total = sum(count for _, count in counts)
    quotas = {label: n * count // total for label, count in counts}
    by_remainder = sorted(counts, key=lambda pair: (-(n * pair[1] % total), rank(pair[0])))
    for label, _ in by_remainder[: n - sum(quotas.values())]:
        quotas[label] += 1
    return quotas


def class_requests(labels: Mapping[str, int], n: int, seed: int) -> list[Caption]:
    """Request n classes in rotation, as often as the quotas say."""
    quotas = label_quotas(labels, n, seed)
    wanted = [
        Caption(f"class-{label}-{number}", "", "", label)
        for label, quota in quotas.items()
        for number in range(quota)
    ]
    return sorted(wanted, key=_turn)


def drawn_class_requests(
    draw: str, n: int, *, num_classes: int, seed: int, size_px: int | None = None
) -> list[Caption]:
    """Request n classes by a protocol's draw.

    Args:
        draw: `uniform classes` (ADM's, whose seed nobody states: sha256(seed/class/i) here),
            `classes in turn` (i mod the number of classes), or `edm classes` (image i has a
            generator seeded by i, which draws the latents first, then the class).
        n: Number of requests.
        num_classes: Number of classes that the model knows.
        seed: Seed of `uniform classes`, and the first seed of `edm classes`.
        size_px: Side of the latents of `edm classes`.
    """
    if draw == "classes in turn":
        labels = [number % num_classes for number in range(n)]
    elif draw == "edm classes":
        assert size_px is not None, "a model with a size"
        labels = [_edm_class(seed + number, num_classes, size_px) for number in range(n)]
    else:
        labels = [_uniform_class(seed, number, num_classes) for number in range(n)]
    return [Caption(f"sample-{number}", "", "", label) for number, label in enumerate(labels)]


def _uniform_class(seed: int, number: int, num_classes: int) -> int:
    digest = hashlib.sha256(f"{seed}/class/{number}".encode()).digest()
    return int.from_bytes(digest[:8], "big") % num_classes


def _edm_class(seed: int, num_classes: int, size_px: int) -> int:
    import torch  # only this draw needs it, and a model has imported it before

    generator = torch.Generator().manual_seed(seed)
    torch.randn([3, size_px, size_px], generator=generator)
    return int(torch.randint(num_classes, size=[1], generator=generator))


def plain_requests(n: int) -> list[Caption]:
    """Request n images without caption or class."""
    return [Caption(f"sample-{number}", "", "") for number in range(n)]


def _turn(request: Caption) -> tuple[int, int]:
    """Return the sorting key that puts one of each class first, then a second of each."""
    return int(request.id.rpartition("-")[2]), request.label or 0
