"""The literal tables of data sets and metrics; importing it imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass

from evalkit.results import Direction


@dataclass(frozen=True, kw_only=True)
class DatasetRow:
    """A data set that can be asked for by name."""

    summary: str
    size_px: int
    default_n: int
    """Captions that `evalkit fid` draws unless told."""
    source: str


@dataclass(frozen=True, kw_only=True)
class MetricRow:
    """A metric that can be asked for by name."""

    summary: str
    direction: Direction
    min_n: int
    """Fewest images for which it is defined."""
    reference: str
    """The paper that defines it."""


DATASETS: dict[str, DatasetRow] = {
    "coco": DatasetRow(
        summary="MS-COCO val2014: 40,504 photographs with about 5 captions each",
        size_px=256,
        default_n=30_000,
        source="a folder (--coco-root, EVALKIT_COCO, the cache) or the hub",
    ),
    "shapes": DatasetRow(
        summary="coloured shapes drawn by evalkit, with captions and ground truth",
        size_px=64,
        default_n=1_000,
        source="drawn on this machine",
    ),
}

METRICS: dict[str, MetricRow] = {
    "fid": MetricRow(
        summary="Fréchet distance of Inception-2015 features",
        direction="lower",
        min_n=2,
        reference="Heusel et al. 2017",
    ),
    "fd": MetricRow(
        summary="Fréchet distance of other features, named after them",
        direction="lower",
        min_n=2,
        reference="Heusel et al. 2017",
    ),
    "clip-score": MetricRow(
        summary="cosine of image and caption in CLIP space",
        direction="higher",
        min_n=1,
        reference="Hessel et al. 2021",
    ),
    "composition": MetricRow(
        summary="share of prompted objects, attributes and relations found (shapes only)",
        direction="higher",
        min_n=1,
        reference="evalkit, docs/protocols.md",
    ),
}
