"""Fréchet distances on other features than FID's: sFID, FD-DINOv2, CLIP-FD."""

from __future__ import annotations

from collections.abc import Sequence

from evalkit.metrics.fid import frechet_difference, frechet_records
from evalkit.metrics.task import INCEPTION, Metric, Need, extractor_key
from evalkit.options import MeasureOptions

CLIP_FD_MODEL = "ViT-B/32"
"""The network of Kynkäänniemi et al. 2023."""


def _sfid(options: MeasureOptions) -> Sequence[Need]:
    del options
    return [Need(INCEPTION, "spatial")]


def _fd_dinov2(options: MeasureOptions) -> Sequence[Need]:
    del options
    return [Need("dinov2", "")]


def _clip_fd(options: MeasureOptions) -> Sequence[Need]:
    del options
    return [Need(extractor_key(CLIP_FD_MODEL), "")]


SFID = Metric(_sfid, frechet_records, frechet_difference, takes_moments=True)
FD_DINOV2 = Metric(_fd_dinov2, frechet_records, frechet_difference, takes_moments=True)
CLIP_FD = Metric(_clip_fd, frechet_records, frechet_difference, takes_moments=True)
