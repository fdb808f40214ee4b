"""The images of several models side by side: the first captions, and those that differ most."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from evalkit.commands.sets import Samples
from evalkit.features.sources import ImageItem
from evalkit.metrics.clip_score import pair_scores
from evalkit.metrics.score import PreparedSet
from evalkit.metrics.task import Task
from evalkit.reports.html import Gallery, ReportSample

FIRST_CAPTIONS = 6
"""Captions that are shown unselected."""
WORST_CAPTIONS = 4
"""Captions that are shown of each model for their difference."""
_SCORE = "clip-score"


def comparison_galleries(
    sets: Mapping[str, Samples], prepared: Mapping[str, PreparedSet]
) -> list[Gallery]:
    """Build the galleries of a comparison; none where the sets share no captions.

    Args:
        sets: The sets by name.
        prepared: The same, measured; with CLIP scores there are galleries of the captions where a
            model is furthest behind.
    """
    images = {name: _first_images(samples.items) for name, samples in sets.items()}
    first, *others = images.values()
    shared = [key for key in first if all(key in other for other in others)]
    if not shared:
        return []
    shown = shared[:FIRST_CAPTIONS]
    scores = {
        name: _scores_by_caption(one.tasks[_SCORE])
        for name, one in prepared.items()
        if _SCORE in one.tasks and one.tasks[_SCORE].captions
    }
    side_by_side = Gallery(
        title="Side by side",
        explanation=f"The first {len(shown)} of {len(shared):,} captions that all models share, "
        "not selected.",
        samples=_samples(shown, images, scores),
        layout="by_caption",
    )
    if len(scores) < len(sets):
        return [side_by_side]
    return [side_by_side, *(_furthest_behind(name, shared, images, scores) for name in sets)]


def _furthest_behind(
    name: str,
    shared: Sequence[str],
    images: Mapping[str, Mapping[str, ImageItem]],
    scores: Mapping[str, Mapping[str, float]],
) -> Gallery:
    """Show the captions whose images by one model score furthest below the best of the others."""

    def lead(caption_id: str) -> float:
        best = max(of[caption_id] for other, of in scores.items() if other != name)
        return best - scores[name][caption_id]

    behind = [key for key in shared if lead(key) > 0]
    chosen = sorted(behind, key=lead, reverse=True)[:WORST_CAPTIONS]
    return Gallery(
        title=f"Where {name} is furthest behind",
        explanation=f"The captions with the largest difference in CLIP score from the best other "
        f"model; {name} is behind in {len(behind):,} of {len(shared):,}. Chosen for their "
        "difference, so not typical.",
        samples=_samples(chosen, images, scores),
        layout="by_caption",
    )


def _samples(
    caption_ids: Sequence[str],
    images: Mapping[str, Mapping[str, ImageItem]],
    scores: Mapping[str, Mapping[str, float]],
) -> list[ReportSample]:
    return [
        ReportSample(
            image=by_caption[key].path,
            caption=by_caption[key].caption or "",
            caption_id=key,
            subject=name,
            score=scores.get(name, {}).get(key),
            score_name="CLIP score",
        )
        for key in caption_ids
        for name, by_caption in images.items()
    ]


def _first_images(items: Sequence[ImageItem]) -> dict[str, ImageItem]:
    """Return the first image of each caption."""
    found: dict[str, ImageItem] = {}
    for item in items:
        if item.caption_id is not None:
            found.setdefault(item.caption_id, item)
    return found


def _scores_by_caption(task: Task) -> dict[str, float]:
    """Return the score of each caption's first image, the one that is shown."""
    found: dict[str, float] = {}
    for place, score in zip(task.captioned, task.once(pair_scores), strict=True):
        key = task.items[place].caption_id
        if key is not None:
            found.setdefault(key, float(score))
    return found
