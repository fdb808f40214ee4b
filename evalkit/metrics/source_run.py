"""The run behind a set of samples: data that its folder has beyond the images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from evalkit.catalog import DATASETS
from evalkit.core.errors import RunFolderError
from evalkit.core.run import ManifestRow, RunFolder
from evalkit.datasets.base import Caption, hash_captions
from evalkit.datasets.open import open_dataset


@dataclass(frozen=True, eq=False)
class SourceRun:
    """A run folder, its captions with their scenes, and the seconds of its batches."""

    folder: RunFolder
    given: Sequence[Caption] | None = None
    """The captions of the run; None: its data set is opened again on access."""

    @property
    def has_scenes(self) -> bool:
        """Whether its captions, given or of a data set found by name, have scenes."""
        if self.given is not None and all(caption.scene for caption in self.given):
            return True
        config = self.folder.config
        name = config["dataset"]["name"]
        return config["conditioning"] == "text" and name in DATASETS and DATASETS[name].has_scenes

    @cached_property
    def rows(self) -> Sequence[ManifestRow]:
        """The manifest."""
        return self.folder.rows()

    @cached_property
    def captions(self) -> Sequence[Caption]:
        """The caption behind each row of the manifest.

        Raises:
            RunFolderError: The run's data set has changed.
        """
        captions = self.given or _drawn_again(self.folder, self.rows)
        by_id = {caption.id: caption for caption in captions}
        return [by_id[row.caption_id] for row in self.rows]

    def timings(self) -> Sequence[Mapping[str, float]]:
        """Return images and seconds of each batch; none for a run without timings."""
        return self.folder.timings()


def _drawn_again(run: RunFolder, rows: Sequence[ManifestRow]) -> Sequence[Caption]:
    """Draw a run's captions again from the data set that it names.

    Raises:
        RunFolderError: The data set lacks them, or they have changed.
    """
    wanted = {row.caption_id for row in rows}
    dataset = open_dataset(run.config["dataset"]["name"])
    captions = [caption for caption in dataset.captions if caption.id in wanted]
    if hash_captions(captions) != run.config["dataset"]["captions_sha256"]:
        raise RunFolderError(
            f"{run.path}: {dataset.name} no longer has the captions that this run used. "
            "Measure it with the evalkit version that made it, or generate it again."
        )
    return captions
