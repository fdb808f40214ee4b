"""The literal tables of data sets and metrics, without heavy imports.

A metric is one file and one row here. The row has everything that lists, tables, reports and
comparisons show, down to a row for each record that the metric yields, so no other module knows a
metric by name.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from string import Formatter
from typing import Literal, get_args

from evalkit.core.errors import EvalkitError
from evalkit.core.registry import Catalog, third_party
from evalkit.core.results import Direction

Needs = Literal["reference", "captions", "both", "neither"]
DIFFERENCE_SUFFIX = "-difference"
"""Suffix of a record's name: the paired difference of two sets."""
INCEPTION_SHA256_PREFIX = "6726825d"
"""Start of the hash of the Inception-2015 weights, whose distance is an FID."""
OTHER_WEIGHTS = "weights not the 2015 ones"
"""The mark of an FID with other weights."""


@dataclass(frozen=True, kw_only=True)
class DatasetRow:
    """A data set with a name."""

    target: str
    """`module:function`; the function takes `on_progress`, and `split` and `coco_root` where the
    row says so, and returns a `CaptionedImages`."""
    summary: str
    size_px: int | None = None
    """Side of its images as they are measured; None: unknown."""
    source: str = ""
    """Source of its images."""
    protocol: str = ""
    """Name of the protocol that `--data NAME` implies; empty: no named one."""
    splits: tuple[str, ...] = ()
    """Its splits, the measured one first; empty: it has only one."""
    takes_root: bool = False
    """Whether `--coco-root` gives its folder."""
    locate: str = ""
    """`module:function` of `coco_root` that finds it, or fails fast if it is missing."""
    has_scenes: bool = False
    """Whether its captions come with the scenes that they describe."""
    paper: str = ""
    """The paper that introduced it; empty: none."""


@dataclass(frozen=True, kw_only=True)
class RecordRow:
    """One record that a metric yields, and how reports describe it."""

    name: str
    """Such as `fid-infinity`; a field in braces matches any text without a hyphen, as in
    `precision-k{k}`."""
    label: str
    """Its label in reports. May contain the fields of the name; `{features}`, the network of the
    features; `{other_features}`, the same in parentheses unless it is Inception; and
    `{other_clip}`, the CLIP in parentheses unless it is the protocol's."""
    direction: Direction
    unit: str = ""
    """Empty for a dimensionless number."""
    summary: str = "{metric}"
    """One clause on what it is; `{metric}` is replaced by the metric's clause."""
    min_n: str = ""
    """Minimum number of images in words, where it isn't the metric's."""

    def __post_init__(self) -> None:
        if self.direction not in get_args(Direction):
            raise ValueError(
                f"Record {self.name!r} has the direction {self.direction!r}, expected one of "
                f"{', '.join(get_args(Direction))}."
            )
        try:
            _pattern(self.name)
        except re.error as error:
            raise ValueError(
                f"The name of record {self.name!r} can't be matched ({error})."
            ) from error
        words = {"features", "other_features", "other_clip", *_words(self.name)}
        for text, allowed in ((self.label, words), (self.summary, {"metric"})):
            unknown = _words(text) - allowed
            if unknown:
                raise ValueError(
                    f"Record {self.name!r}: {text!r} has the unknown field {{{min(unknown)}}}; "
                    f"known are {', '.join(sorted(allowed))}."
                )

    def match(self, name: str) -> Mapping[str, str] | None:
        """Match a record name against this one and return the values of its braces, or None.

        >>> RecordRow(name="recall-k{k}", label="Recall", direction="higher").match("recall-k5")
        {'k': '5'}
        """
        found = _pattern(self.name).fullmatch(name)
        return None if found is None else found.groupdict()


@dataclass(frozen=True, kw_only=True)
class MetricRow:
    """A metric with a name."""

    target: str
    """`"module:ATTRIBUTE"` of its `evalkit.metrics.task.Metric`, imported on use."""
    summary: str
    """One clause on what it is."""
    summary_with_features: str = ""
    """The clause if the features' network is known, with `{features}` in it; without it, the
    network is appended to `summary`."""
    min_n: int
    """Minimum number of images for which it is defined."""
    needs: Needs
    """What it needs besides the samples."""
    pairs: bool
    """Whether the paired difference of two sets is defined, by `Metric.difference`."""
    paper: str
    """The paper that defines it."""
    records: tuple[RecordRow, ...]
    """The records that it may yield, the main one first."""
    full_reference: bool = False
    """Whether its reference is another run of the same captions and seeds, image by image."""

    def __post_init__(self) -> None:
        if not self.records or not all(isinstance(one, RecordRow) for one in self.records):
            raise ValueError(
                f"The metric of {self.target} needs a RecordRow for each record, at least one, got "
                f"{self.records!r}."
            )
        if self.needs not in get_args(Needs):
            raise ValueError(
                f"The metric of {self.target} needs {self.needs!r}, expected one of "
                f"{', '.join(get_args(Needs))}."
            )
        if not isinstance(self.min_n, int) or self.min_n < 1:
            raise ValueError(
                f"The metric of {self.target} has min_n {self.min_n!r}, expected 1 or more."
            )

    @property
    def direction(self) -> Direction:
        """Which way is better, by the main record."""
        return self.records[0].direction

    @property
    def needs_reference(self) -> bool:
        """Whether the samples are compared with real images."""
        return self.needs in ("reference", "both")

    @property
    def needs_captions(self) -> bool:
        """Whether the samples need captions."""
        return self.needs in ("captions", "both")

    def line(self, record: str) -> RecordRow | None:
        """Return the row of a record; a paired difference has that of the metric it compares."""
        stem = record.removesuffix(DIFFERENCE_SUFFIX) if self.pairs else record
        return next((line for line in self.records if line.match(stem) is not None), None)


@lru_cache
def _pattern(name: str) -> re.Pattern[str]:
    parts = re.split(r"\{(\w+)\}", name)
    return re.compile(
        "".join(
            f"(?P<{part}>[^-]+)" if place % 2 else re.escape(part)
            for place, part in enumerate(parts)
        )
    )


def _words(text: str) -> set[str]:
    return {word for _, word, _, _ in Formatter().parse(text) if word is not None}


DATASETS = Catalog(
    "datasets",
    {
        "coco": DatasetRow(
            target="evalkit.datasets.coco:find_coco",
            summary="MS-COCO val2014: 40,504 photographs with about 5 captions each",
            size_px=256,
            source="a folder (--coco-root, EVALKIT_COCO, the cache) or the Hugging Face Hub",
            protocol="imagen-30k",
            splits=("val2014",),
            takes_root=True,
            locate="evalkit.datasets.coco:locate_coco",
            paper="Lin et al. 2014",
        ),
        "coco-val2017": DatasetRow(
            target="evalkit.datasets.coco:find_val2017",
            summary="MS-COCO val2017: 5,000 of val2014's photographs",
            size_px=512,
            source="a folder (--coco-root, EVALKIT_COCO, the cache)",
            takes_root=True,
            locate="evalkit.datasets.coco:locate_val2017",
            paper="Lin et al. 2014",
        ),
        "mjhq": DatasetRow(
            target="evalkit.datasets.named_folders:open_mjhq",
            summary="MJHQ-30K: 30,000 images of Midjourney in 10 categories",
            size_px=1024,
            source="a folder (EVALKIT_MJHQ, the cache)",
            protocol="mjhq-playground",
            locate="evalkit.datasets.named_folders:locate_mjhq",
            paper="Li et al. 2024",
        ),
        "imagenet": DatasetRow(
            target="evalkit.datasets.named_folders:open_imagenet",
            summary="ImageNet: photographs of 1,000 classes, a subfolder each",
            source="a folder (EVALKIT_IMAGENET, the cache)",
            locate="evalkit.datasets.named_folders:locate_imagenet",
            paper="Russakovsky et al. 2015",
        ),
        "cifar10": DatasetRow(
            target="evalkit.datasets.named_folders:open_cifar10",
            summary="CIFAR-10: 50,000 photographs of 10 classes",
            size_px=32,
            source="a folder (EVALKIT_CIFAR10, the cache)",
            splits=("train", "test"),
            locate="evalkit.datasets.named_folders:locate_cifar10",
            paper="Krizhevsky 2009",
        ),
        "shapes": DatasetRow(
            target="evalkit.datasets.shapes.dataset:load_shapes",
            summary="coloured shapes drawn by evalkit, with captions and ground truth",
            size_px=64,
            source="drawn on this machine",
            protocol="shapes-1k",
            splits=("val", "train"),
            has_scenes=True,
        ),
    },
    DatasetRow,
    adopt=lambda name, opener: DatasetRow(
        target=third_party("datasets")[name], summary=(opener.__doc__ or "").partition("\n")[0]
    ),
)
"""An entry point that names only a function of `on_progress` becomes a row, too."""


def _distance(name: str, label: str) -> tuple[RecordRow, ...]:
    """Return the two records of a Fréchet distance; braces in the label mark the place of `∞`."""
    return (
        RecordRow(name=name, label=label.format(""), direction="lower"),
        RecordRow(
            name=f"{name}-infinity",
            label=label.format("∞"),
            direction="lower",
            summary="{metric}, corrected for its upward bias at finite n",
            min_n="1.06 times the feature dimensions",
        ),
    )


def _by_neighbours(name: str, summary: str) -> tuple[RecordRow, ...]:
    """Return the records of one PRDC score; the name has no k only where there is no value."""
    label = name.capitalize()
    return (
        RecordRow(
            name=f"{name}-k{{k}}",
            label=f"{label} k{{k}}{{other_features}}",
            direction="higher",
            summary=summary,
        ),
        RecordRow(name=name, label=label, direction="higher", summary=summary),
    )


def _composition(name: str, label: str, unit: str, summary: str) -> RecordRow:
    return RecordRow(
        name=f"composition-{name}",
        label=label,
        direction="none" if name.endswith("-shuffled") else "higher",
        unit=unit,
        summary=summary,
    )


def _same_noise(
    name: str, label: str, summary: str, paper: str, *, lower: bool = False, unit: str = ""
) -> MetricRow:
    """Return the row of a metric of pairs of images that should not differ."""
    direction: Direction = "lower" if lower else "higher"
    return MetricRow(
        target=f"evalkit.metrics.same_noise:{name.upper().replace('-', '_')}",
        summary=summary,
        min_n=1,
        needs="reference",
        pairs=True,
        paper=paper,
        records=(RecordRow(name=name, label=label, direction=direction, unit=unit),),
        full_reference=True,
    )


_FID = _distance("fid", "FID{}")
_METRICS: dict[str, MetricRow] = {
    "fid": MetricRow(
        target="evalkit.metrics.fid:FID",
        summary="Fréchet distance of Inception-2015 features",
        min_n=2,
        needs="reference",
        pairs=True,
        paper="Heusel et al. 2017",
        records=_FID,
    ),
    "fd": MetricRow(
        target="evalkit.metrics.fid:FD",
        summary="Fréchet distance of other features, named after them",
        summary_with_features="Fréchet distance of {features} features",
        min_n=2,
        needs="reference",
        pairs=True,
        paper="Heusel et al. 2017",
        # On Inception features it is an FID, and has that name.
        records=(*_distance("fd", "FD{} ({{features}})"), *_FID),
    ),
    "kid": MetricRow(
        target="evalkit.metrics.kid:KID",
        summary="squared MMD of Inception features, cubic kernel",
        min_n=2,
        needs="reference",
        pairs=True,
        paper="Bińkowski et al. 2018",
        records=(
            RecordRow(name="kid", label="KID{other_features}", direction="lower"),
            RecordRow(
                name="kid-full",
                label="KID, full set{other_features}",
                direction="lower",
                summary="{metric}, over all pairs of images",
            ),
        ),
    ),
    "is": MetricRow(
        target="evalkit.metrics.inception_score:INCEPTION_SCORE",
        summary="Inception Score: how confident and diverse the network's class predictions are",
        min_n=10,
        needs="neither",
        pairs=True,
        paper="Salimans et al. 2016",
        records=(RecordRow(name="is", label="Inception Score", direction="higher"),),
    ),
    "prdc": MetricRow(
        target="evalkit.metrics.prdc:PRDC",
        summary="precision, recall, density and coverage of Inception features",
        min_n=4,
        needs="reference",
        pairs=True,
        paper="Kynkäänniemi et al. 2019, Naeem et al. 2020",
        records=(
            *_by_neighbours("precision", "share of samples inside a real image's neighbourhood"),
            *_by_neighbours("recall", "share of real images inside a sample's neighbourhood"),
            *_by_neighbours("density", "real neighbourhoods around a sample, over k"),
            *_by_neighbours("coverage", "share of real images' neighbourhoods that hold a sample"),
        ),
    ),
    "sfid": MetricRow(
        target="evalkit.metrics.frechet_variants:SFID",
        summary="Fréchet distance of Inception's spatial features",
        min_n=2,
        needs="reference",
        pairs=True,
        paper="Nash et al. 2021",
        records=_distance("sfid", "sFID{}"),
    ),
    "fd-dinov2": MetricRow(
        target="evalkit.metrics.frechet_variants:FD_DINOV2",
        summary="Fréchet distance of DINOv2 ViT-L/14 features",
        min_n=2,
        needs="reference",
        pairs=True,
        paper="Stein et al. 2023",
        records=_distance("fd-dinov2", "FD{} (DINOv2)"),
    ),
    "clip-fd": MetricRow(
        target="evalkit.metrics.frechet_variants:CLIP_FD",
        summary="Fréchet distance of CLIP ViT-B/32 features",
        min_n=2,
        needs="reference",
        pairs=True,
        paper="Kynkäänniemi et al. 2023",
        records=_distance("clip-fd", "CLIP-FD{}"),
    ),
    "cmmd": MetricRow(
        target="evalkit.metrics.cmmd:CMMD",
        summary="squared MMD of CLIP ViT-L/14-336 embeddings, times 1,000",
        min_n=2,
        needs="reference",
        pairs=True,
        paper="Jayasumana et al. 2024",
        records=(
            RecordRow(name="cmmd", label="CMMD", direction="lower"),
            RecordRow(
                name="cmmd-unbiased",
                label="CMMD, unbiased",
                direction="lower",
                summary="{metric}, without pairs of an image with itself",
            ),
        ),
    ),
    "clip-score": MetricRow(
        target="evalkit.metrics.clip_score:CLIP_SCORE",
        summary="cosine of image and caption in CLIP space",
        min_n=1,
        needs="captions",
        pairs=True,
        paper="Hessel et al. 2021",
        records=(RecordRow(name="clip-score", label="CLIP score{other_clip}", direction="higher"),),
    ),
    "r-precision": MetricRow(
        target="evalkit.metrics.r_precision:R_PRECISION",
        summary="share of images whose own caption ranks first among 100, by CLIP",
        min_n=1,
        needs="captions",
        pairs=True,
        paper="Xu et al. 2018",
        records=(
            RecordRow(name="r-precision", label="R-precision{other_clip}", direction="higher"),
        ),
    ),
    "composition": MetricRow(
        target="evalkit.metrics.composition:COMPOSITION",
        summary="share of prompted objects, attributes and relations found (shapes only)",
        min_n=1,
        needs="neither",
        pairs=True,
        paper="evalkit.metrics.composition; runs only",
        records=(
            _composition(
                "pairs",
                "Prompts found",
                "share of images",
                "every prompted shape and colour is in the image, by the shape detector",
            ),
            _composition(
                "pairs-shuffled",
                "Prompts found, shuffled",
                "share of images",
                "the same with other images' captions: the chance level",
            ),
            _composition(
                "exact",
                "Scenes right",
                "share of images",
                "shapes, colours, counts and relations are all as prompted, by the shape detector",
            ),
            _composition(
                "objects",
                "Objects found",
                "share",
                "share of prompted objects that are in the image",
            ),
            _composition(
                "attributes",
                "Attributes found",
                "share",
                "share of prompted shapes, colours and sizes that are correct",
            ),
            _composition(
                "relations",
                "Relations found",
                "share",
                "share of prompted relations that hold",
            ),
        ),
    ),
    "psnr": _same_noise("psnr", "PSNR", "peak signal-to-noise ratio", "ITU-T J.340", unit="dB"),
    "ssim": _same_noise("ssim", "SSIM", "structural similarity", "Wang et al. 2004"),
    "lpips": _same_noise(
        "lpips", "LPIPS", "distance of AlexNet's features", "Zhang et al. 2018", lower=True
    ),
    "dinov2-cosine": _same_noise(
        "dinov2-cosine", "DINOv2 cosine", "cosine of DINOv2 features", "Oquab et al. 2023"
    ),
    "clip-cosine": _same_noise(
        "clip-cosine", "CLIP cosine{other_clip}", "cosine of CLIP embeddings", "Radford et al. 2021"
    ),
    "images-per-second": MetricRow(
        target="evalkit.metrics.speed:IMAGES_PER_SECOND",
        summary="sampling speed of a run on the machine that made it",
        min_n=1,
        needs="neither",
        pairs=False,
        paper="evalkit.metrics.speed; runs only",
        records=(
            RecordRow(
                name="images-per-second",
                label="Images per second",
                direction="higher",
                unit="images/s",
            ),
        ),
    ),
}
METRICS = Catalog("metrics", _METRICS, MetricRow)
"""Our rows, then those of other packages' entry points `evalkit.metrics`."""


def metric_of(name: str) -> str:
    """Return the metric that a name asks for: its own, or that of one of its records.

    An unknown name is returned as it is, for the catalog's error.

    >>> metric_of("fid-infinity"), metric_of("recall-k3"), metric_of("kid")
    ('fid', 'prdc', 'kid')
    """
    if name in METRICS:
        return name
    found = (own for own, row in _METRICS.items() if row.line(name) is not None)
    return next(found, name)


@dataclass(frozen=True)
class Described:
    """The catalog's entry for a record."""

    row: MetricRow
    line: RecordRow
    fields: Mapping[str, str]
    """Values of the fields in braces, from the record's name."""


def describe(record: str) -> Described | None:
    """Return the catalog's entry for a record name; None where no metric declares it.

    Our own metrics come first, so that no package can rename their records; then those whose name
    begins the record's. A broken package is skipped: a report on other metrics does not need it.
    """
    stem = record.removesuffix(DIFFERENCE_SUFFIX)
    for row in _rows(stem):
        for line in row.records:
            fields = line.match(stem)
            if fields is not None:
                return Described(row, line, fields)
    return None


def _rows(record: str) -> Iterator[MetricRow]:
    yield from _METRICS.values()
    others = _others(tuple(sys.path))
    for name in sorted(others, key=lambda name: not record.startswith(name)):
        yield others[name]


@lru_cache(maxsize=4)
def _others(path: tuple[str, ...]) -> Mapping[str, MetricRow]:
    """Return the rows of other packages that load; `path`, the search path, keys the cache."""
    del path
    found = {}
    for name in METRICS:
        with suppress(EvalkitError):
            found[name] = METRICS[name]
    return {name: row for name, row in found.items() if name not in _METRICS}


NETWORK_PAPERS: Mapping[str, str] = {
    "inception": "Szegedy et al. 2016",
    "dinov2": "Oquab et al. 2023",
    "clip": "Radford et al. 2021",
}
"""The papers of the features' networks; `clip` stands for any network with captions."""


def network_paper(name: str) -> str:
    """Return the paper of a features' network by its name in fingerprints.

    >>> network_paper("inception"), network_paper("shapes-clip"), network_paper("clip:ViT-L-14")
    ('Szegedy et al. 2016', 'Radford et al. 2021', 'Radford et al. 2021')
    """
    return NETWORK_PAPERS.get(name) or NETWORK_PAPERS["clip"]


@dataclass(frozen=True, kw_only=True)
class ExportRow:
    """A file format of results."""

    target: str
    """`module:function` of a path and a page of `evalkit.reports.html`."""
    summary: str


EXPORTS: Mapping[str, ExportRow] = {
    ".json": ExportRow(
        target="evalkit.reports.exporting:write_json", summary="the records, by the schema"
    ),
    ".csv": ExportRow(
        target="evalkit.reports.exporting:write_table", summary="one row a record, all digits"
    ),
    ".html": ExportRow(
        target="evalkit.reports.exporting:write_page", summary="the page, in one file"
    ),
    ".md": ExportRow(
        target="evalkit.reports.markdown:write_markdown", summary="tables and methods"
    ),
    ".tex": ExportRow(
        target="evalkit.reports.latex:write_latex", summary="tables and methods, with booktabs"
    ),
    ".bib": ExportRow(
        target="evalkit.reports.exporting:write_bibliography", summary="BibTeX of what was run"
    ),
}
"""What `--export` writes, by suffix."""
