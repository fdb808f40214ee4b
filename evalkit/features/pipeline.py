"""One pass over a set of images for any number of extractors, with the feature store.

Threads or worker processes decode and resize (`evalkit.features.decoding`), the calling thread runs
the networks. What is already stored is neither decoded nor encoded; finished
batches are written at once, so a killed pass resumes where it stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from evalkit.core.arrays import as_array
from evalkit.core.downloads import cache_root
from evalkit.core.errors import DataError, NotEnoughImagesError
from evalkit.core.places import AnyPath, is_remote
from evalkit.core.progress import ProgressFactory, silent
from evalkit.features.base import Extractor, stack_inputs
from evalkit.features.decoding import (
    Decoded,
    Job,
    decode_in_processes,
    decode_in_threads,
    usable_cores,
)
from evalkit.features.seen import SeenFiles
from evalkit.features.sources import ImageItem, Preparation, check_hash, hash_of
from evalkit.features.store import FeatureStore, FeatureTable, StoredSet

_FEATURES_VERSION = 1
_SHARD_IMAGES = 512
_PREFETCHED_BATCHES = 3

Key = tuple[str, str]
"""Names of an extractor and of one of its layers."""
Elsewhere = Callable[["Pass", ProgressFactory, str], None]
"""Called with a pass, the progress, and the name of the set."""


@dataclass(frozen=True)
class FeatureSet:
    """Features of the images of a set, in the order of the set."""

    features: Mapping[Key, StoredSet]
    """By extractor name and layer."""
    kept: tuple[int, ...]
    """Indices of the images with features; all of them unless bad ones were skipped."""
    sha256s: tuple[str, ...]
    """Hashes of the kept images."""
    skipped: Mapping[str, str] = field(default_factory=dict)
    """Names of the skipped images, with the reasons."""

    def of(self, extractor: Extractor, layer: str | None = None) -> StoredSet:
        """Return the features of one layer; None means the main one."""
        return self.features[extractor.name, layer or next(iter(extractor.layers))]


@dataclass(frozen=True)
class PassOptions:
    """How a pass runs; it changes at most the rounding of a feature."""

    batch_size: int = 32
    """Images per batch of a network."""
    workers: int | None = None
    """Number of decoding processes; 0 for threads of this process, one per core."""
    skip_bad: bool = False
    """Skip images that can't be decoded instead of raising an error."""
    elsewhere: Elsewhere | None = None
    """Encodes missing images in other processes first, which write into the store."""


def extract_set(
    items: Sequence[ImageItem],
    extractors: Sequence[Extractor],
    *,
    preparation: Preparation | None = None,
    store: FeatureStore,
    how: PassOptions | None = None,
    what: str = "images",
    progress: ProgressFactory = silent,
) -> FeatureSet:
    """Compute the features of every image by every extractor, each at most once.

    Args:
        items: The images.
        extractors: The extractors; their names must differ.
        preparation: Preprocessing before the extractors' own resizing.
        store: The feature store.
        how: How the pass runs.
        what: Name of the set in progress and errors.
        progress: Such as `evalkit.core.progress.progress_bar`.

    Raises:
        DataError: An image can't be read or decoded; finished features stay stored.
        NotEnoughImagesError: No image is left.
    """
    assert len({e.name for e in extractors}) == len(extractors), "two extractors of one name"
    preparation = preparation or Preparation()
    tables = open_tables(extractors, preparation, store)
    found = Pass(store.root, items, extractors, preparation, tables, how or PassOptions())
    found.hash_images(progress, what)
    if found.how.elsewhere is not None:
        found.how.elsewhere(found, progress, what)
    found.encode_missing(progress, what)
    kept = tuple(i for i in range(len(items)) if i not in found.bad)
    if not kept:
        raise NotEnoughImagesError(f"{what}: none of the {len(items)} images is readable.")
    sha256s = tuple(found.sha256s[i] for i in kept)
    refill = partial(found.encode_missing, progress, what)
    return FeatureSet(
        {key: StoredSet(table, sha256s, refill) for key, table in tables.items()},
        kept,
        sha256s,
        {items[i].name: reason for i, reason in sorted(found.bad.items())},
    )


def open_tables(
    extractors: Sequence[Extractor], preparation: Preparation, store: FeatureStore
) -> dict[Key, FeatureTable]:
    """Open the stored features of every layer."""
    return {
        (e.name, layer): store.open(table_identity(e, layer, preparation), dim)
        for e in extractors
        for layer, dim in e.layers.items()
    }


def table_identity(extractor: Extractor, layer: str, preparation: Preparation) -> dict[str, Any]:
    """Return everything that determines a stored feature besides the image."""
    return {
        **extractor.identity,
        "layer": layer,
        "preparation": preparation.identity(),
        "features_version": _FEATURES_VERSION,
    }


def encode_texts(
    captions: Sequence[str],
    extractor: Any,
    *,
    store: FeatureStore,
    batch_size: int = 64,
    progress: ProgressFactory = silent,
) -> StoredSet:
    """Embed captions by a text-image extractor, each at most once."""
    import hashlib

    identity = {**extractor.identity, "layer": "text", "features_version": _FEATURES_VERSION}
    table = store.open(identity, extractor.dim)
    keys = [hashlib.sha256(caption.encode()).hexdigest() for caption in captions]
    shard = -(-_SHARD_IMAGES // batch_size) * batch_size

    def fill() -> None:
        missing = {k: c for k, c in zip(keys, captions, strict=True) if k not in table}
        names, texts = list(missing), list(missing.values())
        with progress("embedding captions") as report:
            for start in range(0, len(texts), shard):
                part = texts[start : start + shard]
                embedded = [
                    as_array(extractor.encode_text(part[at : at + batch_size]))
                    for at in range(0, len(part), batch_size)
                ]
                table.add(names[start : start + shard], np.concatenate(embedded))
                report(start + len(part), len(texts))

    fill()
    return StoredSet(table, keys, fill)


@dataclass
class Pass:
    """The state of one pass: what is known about each image, and what is left to do."""

    root: AnyPath
    """Folder of the feature store."""
    items: Sequence[ImageItem]
    extractors: Sequence[Extractor]
    preparation: Preparation
    tables: Mapping[Key, FeatureTable]
    how: PassOptions
    bad: dict[int, str] = field(default_factory=dict)
    sha256s: list[str] = field(default_factory=list)

    def hash_images(self, progress: ProgressFactory, what: str) -> None:
        """Fill in the hashes, and check that files still have the ones that are recorded.

        Every file with a recorded hash is looked at, and read unless it is as it was when it was
        last read. Features of an image that was altered or deleted since are never used.
        """
        recorded = [item.path for item in self.items if item.sha256]
        local = cache_root() / "features" if is_remote(self.root) else self.root
        seen = SeenFiles(local, (path.parent for path in recorded if isinstance(path, Path)))
        faults: dict[int, DataError] = {}
        hashing = partial(_hash, seen=seen)
        with progress(f"hashing {what}") as report, ThreadPoolExecutor(usable_cores()) as pool:
            for index, (sha256, error) in enumerate(pool.map(hashing, self.items)):
                if error is not None:
                    faults[index] = error
                self.sha256s.append(sha256)
                report(index + 1, len(self.items))
        seen.save()
        if self.how.skip_bad:
            self.bad |= {index: str(error) for index, error in faults.items()}
        elif faults:
            first = next(iter(faults.values()))
            if len(faults) == 1:
                raise first
            raise DataError(f"{first} {len(faults) - 1:,} more images are unusable.") from first

    def encode_missing(self, progress: ProgressFactory, what: str) -> None:
        """Decode the images that a table lacks, and run each network on those it lacks."""
        todo = self.missing()
        if not todo:
            return
        batches = {e.name: _Batches(e, self.tables, self.how.batch_size) for e in self.extractors}
        try:
            with progress(f"features of {what}") as report, closing(self._decoded(todo)) as images:
                decoded = zip(todo, images, strict=True)
                for done, ((index, _), found) in enumerate(decoded, start=1):
                    if isinstance(found, DataError):
                        self.note_bad(index, found)
                    else:
                        for name, values in found.items():
                            batches[name].add(self.sha256s[index], values)
                    report(done, len(todo))
                for batch in batches.values():
                    batch.encode()
        finally:
            for batch in batches.values():
                batch.write()

    def missing(self) -> list[tuple[int, list[Extractor]]]:
        """Return the images that a table lacks, each once, with the extractors to run."""
        seen: set[str] = set()
        todo = []
        for index, sha256 in enumerate(self.sha256s):
            if index in self.bad or sha256 in seen:
                continue
            seen.add(sha256)
            wanting = [e for e in self.extractors if self._lacks(e, sha256)]
            if wanting:
                todo.append((index, wanting))
        return todo

    def _lacks(self, extractor: Extractor, sha256: str) -> bool:
        return any(sha256 not in self.tables[extractor.name, layer] for layer in extractor.layers)

    def _decoded(
        self, todo: Sequence[tuple[int, list[Extractor]]]
    ) -> Generator[Decoded, None, None]:
        """Yield prepared images in order, a few batches in advance."""
        jobs = [Job(self.items[index], tuple(e.name for e in wanting)) for index, wanting in todo]
        ahead = min(len(jobs), _PREFETCHED_BATCHES * self.how.batch_size)
        possible = {e.name: getattr(e, "preparer", None) for e in self.extractors}
        picklable = {name: one for name, one in possible.items() if one is not None}
        workers = self.how.workers or 0
        if workers and len(picklable) == len(possible):
            return decode_in_processes(
                jobs, self.preparation, picklable, processes=workers, ahead=ahead
            )
        preparers = {e.name: e.prepare for e in self.extractors}
        threads = workers or usable_cores()
        return decode_in_threads(jobs, self.preparation, preparers, threads=threads, ahead=ahead)

    def note_bad(self, index: int, error: DataError) -> None:
        """Skip a bad image and those with the same bytes, or raise the error."""
        if not self.how.skip_bad:
            raise error
        # Files with the same bytes are equally bad.
        for other, sha256 in enumerate(self.sha256s):
            if sha256 == self.sha256s[index]:
                self.bad[other] = str(error)


@dataclass
class _Batches:
    """Collect the inputs of one extractor, encode full batches, write shards."""

    extractor: Extractor
    tables: Mapping[Key, FeatureTable]
    batch_size: int
    waiting: list[tuple[str, np.ndarray]] = field(default_factory=list)
    done: list[tuple[list[str], dict[str, Float32[np.ndarray, "n d"]]]] = field(
        default_factory=list
    )

    def add(self, sha256: str, values: np.ndarray) -> None:
        self.waiting.append((sha256, values))
        if len(self.waiting) >= self.batch_size:
            self.encode()

    def encode(self) -> None:
        if not self.waiting:
            return
        keys = [sha256 for sha256, _ in self.waiting]
        inputs = stack_inputs(self.extractor.name, [values for _, values in self.waiting])
        encoded = {name: as_array(rows) for name, rows in self.extractor.encode(inputs).items()}
        self.done.append((keys, encoded))
        self.waiting = []
        if sum(len(keys) for keys, _ in self.done) >= _SHARD_IMAGES:
            self.write()

    def write(self) -> None:
        if not self.done:
            return
        keys = [key for part, _ in self.done for key in part]
        for layer in self.extractor.layers:
            rows = np.concatenate([encoded[layer] for _, encoded in self.done])
            self.tables[self.extractor.name, layer].add(keys, rows)
        self.done = []


def _hash(item: ImageItem, *, seen: SeenFiles) -> tuple[str, DataError | None]:
    recorded, path = item.sha256, item.path
    try:
        if recorded is None or not isinstance(path, Path):
            return recorded or hash_of(item), None  # what archives hold is checked when decoded
        with suppress(OSError):  # reading it says what is wrong
            if seen.is_unchanged(path, recorded):
                return recorded, None
        check_hash(item, hash_of(item))
        with suppress(OSError):  # deleted this moment; decoding it says so
            seen.add(path, recorded)
        return recorded, None
    except DataError as error:
        return "", error
