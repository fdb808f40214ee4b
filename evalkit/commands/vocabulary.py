"""`evalkit vocabulary`: learn a byte-pair vocabulary from captions."""

from __future__ import annotations

from pathlib import Path

from evalkit.core.errors import ConfigError
from evalkit.core.files import check_folder
from evalkit.core.progress import console, progress_bar
from generators.training.vocabulary import write_vocabulary

SHAPES = "shapes"
SEED = 0
"""Seed of the data set `shapes` that the zoo was trained on."""
DEFAULT_NUM_IMAGES = 4_000
"""Reproduces the vocabulary of the zoo, byte for byte."""


def vocabulary(data: str, out: Path, *, num_images: int | None, num_merges: int | None) -> None:
    """Write `vocabulary.json` and `vocabulary.bpe` into a folder.

    Args:
        data: `shapes`, whose training captions are drawn without their images, or the name or
            folder of another data set, all of whose captions are read.
        out: The folder.
        num_images: Images of `shapes` to read captions of; None: as many as for the zoo.
        num_merges: Maximum number of merges; None: as many as for the zoo.

    Raises:
        ConfigError: `out` is a file, a number of images is given for another data set, or the data
            set has no captions.
        UnknownNameError: No data set has the name.
    """
    if out.exists() and not out.is_dir():
        raise ConfigError(f"--out {out} is a file. Give a folder; two files are written to it.")
    check_folder(out, "--out")
    if data == SHAPES:
        captions = _shapes_captions(DEFAULT_NUM_IMAGES if num_images is None else num_images)
    elif num_images is not None:
        raise ConfigError(f"--n works with --data {SHAPES} only; all captions of {data} are read.")
    else:
        captions = _captions_of(data)
    choice = {} if num_merges is None else {"num_merges": num_merges}
    num_tokens = write_vocabulary(captions, out, **choice)
    console.print(
        f"{out}: vocabulary.json and vocabulary.bpe, {num_tokens:,} tokens of "
        f"{len(captions):,} captions"
    )


def _shapes_captions(num_images: int) -> list[str]:
    """Draw all captions of the first training images; the validation split is never read."""
    from evalkit.datasets.shapes.dataset import describe

    captions: list[str] = []
    with progress_bar(f"Writing captions of {num_images:,} images") as report:
        for index in range(num_images):
            captions += describe(SEED, "train", index)[1]
            report(index + 1, num_images)
    return captions


def _captions_of(data: str) -> list[str]:
    from evalkit.datasets.open import open_dataset

    captions = [caption.text for caption in open_dataset(data).captions]
    if not captions:
        raise ConfigError(f"{data} has no captions to learn a vocabulary from.")
    return captions
