"""The literal tables of data sets and metrics; importing it imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass

from evalkit.core.registry import Catalog, third_party
from evalkit.core.results import Direction


@dataclass(frozen=True, kw_only=True)
class DatasetRow:
    """A data set that can be asked for by name."""

    target: str
    """`module:function`; the function takes `on_progress`, and `split` and `coco_root` where the
    row says so, and returns a `CaptionedImages`."""
    summary: str
    size_px: int | None = None
    """Edge of its images as they are measured; None: not known."""
    source: str = ""
    """Where its images come from."""
    protocol: str = ""
    """Name of the protocol that `--data NAME` stands for; empty: no named one."""
    splits: tuple[str, ...] = ()
    """Its splits, the one that is measured first; empty: it has but one."""
    takes_root: bool = False
    """Whether `--coco-root` says where it lies."""
    locate: str = ""
    """`module:function` of `coco_root` that finds it, or tells at once that it isn't there."""
    has_scenes: bool = False
    """Whether its captions come with the scene that they describe."""


@dataclass(frozen=True, kw_only=True)
class MetricRow:
    """A metric that can be asked for by name."""

    summary: str
    direction: Direction
    min_n: int
    """Fewest images for which it is defined."""
    reference: str
    """The paper that defines it."""


DATASETS = Catalog(
    "datasets",
    {
        "coco": DatasetRow(
            target="evalkit.datasets.coco:find_coco",
            summary="MS-COCO val2014: 40,504 photographs with about 5 captions each",
            size_px=256,
            source="a folder (--coco-root, EVALKIT_COCO, the cache) or the hub",
            protocol="imagen-30k",
            splits=("val2014",),
            takes_root=True,
            locate="evalkit.datasets.coco:locate_coco",
        ),
        "shapes": DatasetRow(
            target="evalkit.datasets.shapes:load_shapes",
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
"""A bare function of `on_progress` in an entry point becomes a row, too."""

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
    "kid": MetricRow(
        summary="squared MMD of Inception features, cubic kernel",
        direction="lower",
        min_n=2,
        reference="Binkowski et al. 2018",
    ),
    "is": MetricRow(
        summary="Inception Score: how sure and how varied the network's classes are",
        direction="higher",
        min_n=10,
        reference="Salimans et al. 2016",
    ),
    "prdc": MetricRow(
        summary="precision, recall, density and coverage of Inception features",
        direction="higher",
        min_n=4,
        reference="Kynkäänniemi et al. 2019, Naeem et al. 2020",
    ),
    "sfid": MetricRow(
        summary="Fréchet distance of Inception's spatial features",
        direction="lower",
        min_n=2,
        reference="Nash et al. 2021",
    ),
    "fd-dinov2": MetricRow(
        summary="Fréchet distance of DINOv2 ViT-L/14 features",
        direction="lower",
        min_n=2,
        reference="Stein et al. 2023",
    ),
    "clip-fd": MetricRow(
        summary="Fréchet distance of CLIP ViT-B/32 features",
        direction="lower",
        min_n=2,
        reference="Kynkäänniemi et al. 2023",
    ),
    "cmmd": MetricRow(
        summary="squared MMD of CLIP ViT-L/14-336 embeddings, times 1,000",
        direction="lower",
        min_n=2,
        reference="Jayasumana et al. 2024",
    ),
    "clip-score": MetricRow(
        summary="cosine of image and caption in CLIP space",
        direction="higher",
        min_n=1,
        reference="Hessel et al. 2021",
    ),
    "r-precision": MetricRow(
        summary="share of images whose own caption ranks first among 100, by CLIP",
        direction="higher",
        min_n=1,
        reference="Xu et al. 2018",
    ),
    "composition": MetricRow(
        summary="share of prompted objects, attributes and relations found (shapes only)",
        direction="higher",
        min_n=1,
        reference="evalkit.metrics.composition; of runs",
    ),
    "images-per-second": MetricRow(
        summary="sampling speed of a run on the machine that made it",
        direction="higher",
        min_n=1,
        reference="evalkit.run_metrics; of runs",
    ),
}
