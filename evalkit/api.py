"""The front door from Python: `evalkit.score`, `evalkit.compare`, `evalkit.generate`.

They are the commands of the same names, on the same code, and return the records that the commands
write. Images may be on disk or in memory.

    import evalkit

    run = evalkit.generate("glide:tiny", prompts=["a red circle", "two blue squares"])
    results = evalkit.score(run, "shapes", metrics=["fd", "clip-score"])
    print(results)
    results.to_frame()
    results.export("results.tex")
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, overload, runtime_checkable

import numpy as np
from PIL import Image
from rich.console import Console, RenderableType

from evalkit.catalog import metric_of
from evalkit.commands.asking import generation_options
from evalkit.commands.compare import Comparison, compare_sets, named_sets
from evalkit.commands.score import Scored, score_page, score_samples
from evalkit.commands.sets import Against, Samples, open_samples
from evalkit.core.errors import ConfigError, DataError
from evalkit.core.pixels import from_pil, read_rgb
from evalkit.core.progress import progress_bar, quiet, silent
from evalkit.core.results import ResultRecord
from evalkit.core.run import ManifestRow
from evalkit.features.sources import ArrayImage, ImageItem
from evalkit.generation import check_complete, prepare_run
from evalkit.options import MeasureOptions, RequestOptions, SamplingOptions
from evalkit.options.devices import torch_device
from evalkit.options.exporting import check_exports
from evalkit.options.parsing import names
from evalkit.reports.difference_table import difference_table
from evalkit.reports.exporting import Page, write_exports
from evalkit.reports.tables import COLUMNS, models_table, terminal_table, tidy_row
from evalkit.reports.wording import is_difference
from evalkit.requests import prompt_id

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "GeneratedImages",
    "Images",
    "MeasureOptions",
    "Results",
    "SamplingOptions",
    "compare",
    "generate",
    "score",
]

_PRINTED_WIDTH = 110
"""Characters of a printed table."""


@runtime_checkable
class TensorLike(Protocol):
    """A tensor of torch, without importing torch."""

    def detach(self) -> Any:
        """Return the tensor without its gradient."""

    def cpu(self) -> Any:
        """Return the tensor on the CPU."""


Images: TypeAlias = str | os.PathLike[str] | Sequence[Image.Image] | np.ndarray | TensorLike
"""A run, folder, archive, `.npz` or `folder:PATH` on disk, a list of Pillow's images, or an array
or tensor of uint8, N x 3 x H x W, in [0, 255]."""


@dataclass(frozen=True)
class Results(Sequence[ResultRecord]):
    """The records of one measurement, in order.

    `results[0]` is a record; `results["clip-score"]` is the record of that name.
    """

    records: tuple[ResultRecord, ...]
    """Of the models, then of their paired differences."""
    make_page: Callable[[], Page] = field(repr=False, compare=False)
    """Returns the content of the page about them, for `export`."""

    @overload
    def __getitem__(self, key: int | str) -> ResultRecord: ...
    @overload
    def __getitem__(self, key: slice) -> tuple[ResultRecord, ...]: ...
    def __getitem__(self, key: int | str | slice) -> ResultRecord | tuple[ResultRecord, ...]:
        return self.record(key) if isinstance(key, str) else self.records[key]

    def __len__(self) -> int:
        return len(self.records)

    def record(self, metric: str, subject: str = "") -> ResultRecord:
        """Return one record.

        Args:
            metric: Its name, such as `fd-infinity` or `clip-score-difference`.
            subject: Its model, or pair of models as `A - B`, where several have such a record.

        Raises:
            KeyError: None has the name, or several have and no subject is given.
        """
        found = [r for r in self.records if r.metric == metric and subject in ("", r.subject)]
        if len(found) == 1:
            return found[0]
        if not found:
            known = dict.fromkeys(record.metric for record in self.records)
            raise KeyError(f"No record {metric!r} of {subject or 'any model'}: {', '.join(known)}.")
        subjects = ", ".join(repr(record.subject) for record in found)
        raise KeyError(f"Several records {metric!r}: give a subject of {subjects}.")

    @property
    def differences(self) -> tuple[ResultRecord, ...]:
        """The paired differences; none where one set was scored."""
        return tuple(record for record in self.records if is_difference(record))

    def to_frame(self, *, fingerprint: bool = False) -> pd.DataFrame:
        """Return a tidy table, one row a record, with the columns of the CSV export.

        Args:
            fingerprint: Whether to add a column for each entry of the fingerprints.
        """
        import pandas as pd

        rows = [tidy_row(record) for record in self.records]
        more = [name for row in rows for name in row if name not in COLUMNS] if fingerprint else []
        frame = pd.DataFrame(rows, columns=[*COLUMNS, *dict.fromkeys(more)])
        return frame.astype({"n_reference": "Int64"})

    def export(self, *files: str | os.PathLike[str]) -> list[Path]:
        """Write the results to files, in the formats of their suffixes.

        Args:
            files: Ending in .json, .csv, .html, .md, .tex or .bib.

        Returns:
            Their paths.

        Raises:
            ConfigError: A suffix that no format has, or one file twice.
            OutputError: A file can't be written.
        """
        paths = tuple(Path(file) for file in files)
        check_exports(paths)
        write_exports(paths, self.make_page())
        return list(paths)

    def __str__(self) -> str:
        """Return the tables that the command prints."""
        measured = [record for record in self.records if not is_difference(record)]
        several = len({record.subject for record in measured}) > 1
        tables: list[RenderableType] = [
            models_table(measured, width=_PRINTED_WIDTH) if several else terminal_table(measured)
        ]
        if self.differences:
            tables.append(difference_table(self.differences))
        buffer = io.StringIO()
        # In a notebook, rich would otherwise display the tables instead of writing them.
        Console(file=buffer, width=_PRINTED_WIDTH, color_system=None, force_jupyter=False).print(
            *tables
        )
        return "\n".join(line.rstrip() for line in buffer.getvalue().splitlines()).strip("\n")

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """Print the tables in a notebook."""
        printer.text("Results(...)" if cycle else str(self))


@dataclass(frozen=True)
class GeneratedImages(Sequence[ManifestRow]):
    """A finished run: one row an image. It can be given wherever images can."""

    path: Path
    """The run folder."""
    rows: tuple[ManifestRow, ...] = field(repr=False)

    @overload
    def __getitem__(self, key: int) -> ManifestRow: ...
    @overload
    def __getitem__(self, key: slice) -> tuple[ManifestRow, ...]: ...
    def __getitem__(self, key: int | slice) -> ManifestRow | tuple[ManifestRow, ...]:
        return self.rows[key]

    def __len__(self) -> int:
        return len(self.rows)

    def __fspath__(self) -> str:
        return str(self.path)

    def images(self) -> Iterator[Image.Image]:
        """Open the images in order; samples without one are left out."""
        for row in self.rows:
            if row.file is not None:
                yield Image.fromarray(read_rgb(self.path / row.file))

    def to_frame(self) -> pd.DataFrame:
        """Return the manifest as a table, one row an image."""
        import pandas as pd

        return pd.DataFrame([asdict(row) for row in self.rows])


def score(
    images: Images,
    reference: Images | None = None,
    *,
    metrics: Sequence[str] | None = None,
    captions: Sequence[str] | None = None,
    protocol: str | None = None,
    features: str | None = None,
    name: str = "",
    device: str | None = None,
    options: MeasureOptions | None = None,
    progress: bool = False,
) -> Results:
    """Score images, against a reference where a metric needs one: `evalkit score`.

    Args:
        images: The samples, see `Images`.
        reference: Real images, a data set's name, or a statistics file; None: the data set of the
            protocol, or nothing where no metric needs any.
        metrics: Names of `evalkit list metrics` or of their records; None: the protocol's.
        captions: The caption of each image in memory; images on disk have their own.
        protocol: Name or TOML file of a measurement protocol; None: the data set's.
        features: Extractor of fd, kid and prdc; None: the protocol's.
        name: Name of the samples in the records; empty: the model's or the folder's.
        device: `auto`, `cpu`, `cuda` or `cuda:N`; None: that of the options, else `auto`.
        options: Everything else about measuring; the arguments above go first.
        progress: Whether to show progress and notes.

    Returns:
        The records. A metric that could not be computed is a record with a state and a reason.

    Raises:
        ConfigError: Options that contradict each other, or no reference where one is needed.
        DataError: Images of another shape or type, or an unusable image.
        EvalkitError: As for `evalkit score`.
    """
    measuring = _measuring(options, device, metrics, protocol=protocol, features=features)
    with _shown(progress) as factory:
        found = _samples(images, captions, name)
        scored: Scored = score_samples(found, _reference(reference), measuring, progress=factory)
    return Results(tuple(scored.all_records), partial(score_page, scored))


def compare(
    images: Mapping[str, Images] | Sequence[str | os.PathLike[str]],
    reference: Images | None = None,
    *,
    metrics: Sequence[str] | None = None,
    captions: Sequence[str] | None = None,
    protocol: str | None = None,
    features: str | None = None,
    device: str | None = None,
    options: MeasureOptions | None = None,
    progress: bool = False,
) -> Results:
    """Compare models by metrics and by paired differences: `evalkit compare`.

    Args:
        images: Sets of images by name, or runs and folders, which have names of their own.
        reference: As for `score`; None: the data set that all runs took their captions from.
        metrics: As for `score`.
        captions: The captions of the images in memory, the same of each such set, in order; they
            pair the sets.
        protocol: As for `score`.
        features: As for `score`.
        device: As for `score`.
        options: As for `score`.
        progress: As for `score`.

    Returns:
        The records of each set, then the differences `NAME-difference` of each pair, the first
        minus the second, with p-values in their details.

    Raises:
        ConfigError: Fewer than two sets, or as for `score`.
        EvalkitError: As for `evalkit compare`.
    """
    measuring = _measuring(options, device, metrics, protocol=protocol, features=features)
    with _shown(progress) as factory:
        if isinstance(images, Mapping):
            if len(images) < 2:
                raise ConfigError(f"A comparison needs at least 2 sets, got {len(images)}.")
            sets = {name: _samples(one, captions, name) for name, one in images.items()}
        else:
            sets = named_sets([os.fspath(one) for one in images])
        found: Comparison = compare_sets(sets, _reference(reference), measuring, progress=factory)
    return Results(tuple(found.all_records), partial(attrgetter("page"), found))


def generate(
    model: str,
    *,
    prompts: Sequence[str] = (),
    labels: Sequence[int] = (),
    data: str = "",
    protocol: str = "",
    n: int | None = None,
    out: str | os.PathLike[str] | None = None,
    guidance: float | str | None = None,
    steps: int | str | None = None,
    seed: int | None = None,
    device: str | None = None,
    sampling: SamplingOptions | None = None,
    progress: bool = False,
) -> GeneratedImages:
    """Generate images into a run folder, or resume one: `evalkit generate`.

    Args:
        model: Name of `evalkit list models`, or a place such as `diffusers:PATH`.
        prompts: Prompts; or give labels, a data set or a protocol instead.
        labels: Class labels.
        data: Name or folder of a captioned data set.
        protocol: Protocol whose captions are drawn.
        n: Number of images; None: the protocol's, or one a prompt or label.
        out: The run folder; None: one below `runs/`, the same for the same settings.
        guidance: Guidance scale, or `STAGE=SCALE,...`; None: the model's.
        steps: Sampling steps, or `STAGE=STEPS,...`; None: the model's.
        seed: Seed of the noise and of the draw; None: that of the protocol, else 0.
        device: `auto`, `cpu`, `cuda` or `cuda:N`; None: that of `sampling`, else `auto`.
        sampling: Everything else about sampling; the arguments above go first.
        progress: Whether to show progress and notes.

    Returns:
        The finished run.

    Raises:
        ConfigError: Nothing to generate, or a setting that the model lacks.
        MissingWeightsError: The model's weights are neither cached nor reachable.
        EvalkitError: As for `evalkit generate`.
    """
    asked = RequestOptions(
        prompt=tuple(prompts), labels=tuple(labels), data=data, protocol=protocol, n=n
    )
    given: dict[str, Any] = {
        key: None if value is None else str(value)
        for key, value in (("guidance", guidance), ("steps", steps))
    } | {"seed": seed, "device": _device(device, sampling)}
    chosen = {key: value for key, value in given.items() if value is not None}
    base = sampling or SamplingOptions()
    typed = base.typed | frozenset(["seed"] if seed is not None else [])
    options = generation_options(
        model, asked, replace(base, **chosen, typed=typed), None if out is None else Path(out)
    )
    with _shown(progress) as factory:
        prepared = prepare_run(options, factory)
        prepared.generate(factory)
        check_complete(prepared.run)
    return GeneratedImages(prepared.run.path, tuple(prepared.run.rows()))


@contextmanager
def _shown(progress: bool) -> Iterator[Any]:
    """Yield the progress to report to; without any, print no notes either."""
    if progress:
        yield progress_bar
        return
    with quiet():
        yield silent


def _device(device: str | None, options: object) -> str | None:
    """Return the device that is meant; None: that of the options."""
    return None if device is None and options is not None else torch_device(device or "auto")


def _measuring(
    options: MeasureOptions | None,
    device: str | None,
    metrics: Sequence[str] | None,
    **given: str | None,
) -> MeasureOptions:
    """Complete the options by the arguments that were given."""
    chosen: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    if metrics is not None:
        several = names(metrics) if isinstance(metrics, str) else metrics
        chosen["metrics"] = tuple(dict.fromkeys(map(metric_of, several)))
    found = _device(device, options)
    if found is not None:
        chosen["device"] = found
    base = options or MeasureOptions()
    return replace(base, **chosen, typed=base.typed | frozenset(chosen))


def _samples(images: Images, captions: Sequence[str] | None, name: str) -> Samples:
    """Open or take over the samples."""
    if isinstance(images, str | os.PathLike):
        if captions is not None:
            raise ConfigError(
                f"captions go with images in memory, but {os.fspath(images)} is on disk. Put them "
                "into a table beside the images, see `evalkit runs import`."
            )
        found = open_samples(os.fspath(images))
        return replace(found, subject=name) if name else found
    items = _items(images, name or "images", captions)
    return Samples(items=items, subject=name or "images", fingerprint={})


def _reference(reference: Images | None) -> str | Against | None:
    if reference is None or isinstance(reference, str | os.PathLike):
        return None if reference is None else os.fspath(reference)
    items = _items(reference, "reference", None)
    return Against(reference=items, name=f"{len(items):,} images in memory", dataset=None)


def _items(
    images: Sequence[Image.Image] | np.ndarray | TensorLike,
    name: str,
    captions: Sequence[str] | None,
) -> list[ImageItem]:
    """Take over images in memory; a caption's id is that of its text.

    Raises:
        DataError: Another type or shape, or not one caption an image.
    """
    arrays = _arrays(images, name)
    if captions is not None and len(captions) != len(arrays):
        raise DataError(
            f"{name}: {len(captions):,} captions for {len(arrays):,} images. Give one an image."
        )
    return [
        ImageItem(
            ArrayImage(f"{name}[{place}]", array),
            caption=captions[place] if captions is not None else None,
            caption_id=prompt_id(captions[place]) if captions is not None else None,
        )
        for place, array in enumerate(arrays)
    ]


def _arrays(images: Sequence[Image.Image] | np.ndarray | TensorLike, name: str) -> list[np.ndarray]:
    """Return images as height x width x 3, uint8."""
    if isinstance(images, TensorLike) and not isinstance(images, np.ndarray):
        images = np.asarray(images.detach().cpu())
    if isinstance(images, np.ndarray):
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1] != 3:
            raise DataError(
                f"{name}: {images.dtype} of shape {images.shape}, expected uint8 of N x 3 x H x W "
                "in [0, 255]. Scale floats and round them, and move the channels to the second "
                "place."
            )
        return list(np.ascontiguousarray(images.transpose(0, 2, 3, 1)))
    if not isinstance(images, Sequence):
        raise DataError(
            f"{name}: a {type(images).__name__}, expected a path, a list of Pillow's images, or an "
            "array of uint8, N x 3 x H x W. Put a single image into a list."
        )
    wrong = next((one for one in images if not isinstance(one, Image.Image)), None)
    if wrong is not None:
        raise DataError(
            f"{name}: a list with a {type(wrong).__name__}, expected Pillow's images. Give a path, "
            "a list of those, or an array of uint8, N x 3 x H x W."
        )
    return [from_pil(one, name=f"{name}[{place}]") for place, one in enumerate(images)]
