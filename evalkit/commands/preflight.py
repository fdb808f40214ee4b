"""`evalkit preflight`: what to know about a set before it is measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from evalkit.analyses.preflight import (
    CLIP_CONTEXT,
    Floor,
    Inspection,
    cut_captions,
    inspect,
    real_floor,
)
from evalkit.commands.sets import Against, Samples, open_against, open_samples, reference_name
from evalkit.core.errors import NotEnoughImagesError
from evalkit.core.progress import ProgressFactory, console, progress_bar
from evalkit.measurement import MeasurementPlan
from evalkit.metrics.clip_score import default_prefix
from evalkit.metrics.score import Scorer
from evalkit.metrics.statistics_files import ReferenceStatistics
from evalkit.metrics.task import INCEPTION
from evalkit.options import MeasureOptions

_JUDGES = ("shapes-clip",)
"""CLIPs whose text context no caption of their data set exceeds."""


def preflight(
    samples: str,
    against: str | None,
    options: MeasureOptions,
    *,
    coco_root: Path | None,
    progress: ProgressFactory = progress_bar,
) -> Inspection:
    """Inspect a set, and print what would spoil its numbers.

    Args:
        samples: The set.
        against: The reference; without one, there is no floor.
        options: The measuring options.
        coco_root: Folder of COCO.
        progress: Such as `evalkit.core.progress.progress_bar`.

    Raises:
        DataError: The set can't be opened.
        MissingWeightsError: The weights of the features are missing.
    """
    found = open_samples(samples)
    named = reference_name(against, options) or found.dataset
    inspection = inspect(found.items, progress)
    lines = inspection.lines()
    if named is not None:
        compared = open_against(named, coco_root, progress)
        options = compared.options(replace(options, allow_short=True), [found])
        compared = compared.for_samples(options, [found])
        lines += _floor_lines(found, compared, options, progress)
    lines += _caption_lines(found, options)
    _print(found, lines)
    return inspection


def say_floor(plan: MeasurementPlan, n: int) -> None:
    """Print the floor of a run's distance, from the reference's features that are loaded."""
    floor = _floor_of(plan.scorer, n)
    if floor is not None:
        console.print(floor_line(floor, n), soft_wrap=True, highlight=False)


def floor_line(floor: Floor, n: int) -> str:
    """Describe a floor in one line."""
    few = f", the reference allows no more than {floor.n:,} a half" if floor.n < n else ""
    return (
        f"Floor: {floor.n:,} real images are {floor.value:.4g} from {floor.n_rest:,} other real "
        f"ones{few}."
    )


def _floor_of(scorer: Scorer, n: int) -> Floor | None:
    features = scorer.reference.features
    needs = (scorer.needs[name][0] for name in ("fid", "fd") if name in scorer.needs)
    need = next(needs, None)
    if features is None or need is None or need.extractor not in scorer.networks.extractors:
        return None
    rows = features.of(scorer.networks.extractors[need.extractor], need.layer or None)
    try:
        return real_floor(rows, n)
    except NotEnoughImagesError:
        return None


def _floor_lines(
    found: Samples, compared: Against, options: MeasureOptions, progress: ProgressFactory
) -> list[str]:
    if isinstance(compared.reference, ReferenceStatistics):
        return ["no floor: a statistics file holds no images"]
    metric = "fid" if options.features == INCEPTION else "fd"
    scorer = Scorer.of(compared.reference, [metric], options, progress)
    floor = _floor_of(scorer, len(found.items))
    return ["no floor: too few images"] if floor is None else [floor_line(floor, len(found.items))]


def _caption_lines(found: Samples, options: MeasureOptions) -> list[str]:
    captions = [caption for item in found.items for caption in item.captions]
    if not captions or options.clip_model in _JUDGES:
        return []
    prefix = options.clip_prefix
    if prefix is None:
        prefix = default_prefix(options.clip_variant)
    cut = cut_captions(captions, prefix)
    if not cut:
        return []
    return [
        f"captions beyond CLIP's context of {CLIP_CONTEXT} tokens: {len(cut):,} "
        f"(such as {cut[0][:60]!r}); CLIP score ignores their ends"
    ]


def _print(found: Samples, lines: Sequence[str]) -> None:
    console.print(f"{found.subject}: {len(found.items):,} images", markup=False, highlight=False)
    for line in lines or ["nothing found"]:
        console.print(f"  {line}", soft_wrap=True, markup=False, highlight=False)
