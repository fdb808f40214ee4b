"""Check how often the intervals of shares contain the true share, by share and by clustering.

    python -m benchmarks.metrics.coverage_shares

takes three minutes of one core. The first table is of shares of samples, as R-precision and
composition have them: beta-binomial hits of several samples a caption. The second is of precision,
recall, density and coverage, whose truth is their mean over the draws, because they depend on the
number of images: two normal clouds at several distances, with one and with four samples a caption.
"""

from __future__ import annotations

import os

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

import numpy as np  # noqa: E402 (one thread, set before numpy starts)

from evalkit.metrics.prdc import NAMES, ManifoldScore, prdc  # noqa: E402
from evalkit.metrics.shares import share_of  # noqa: E402

SEED = 20_261_129
SHARES = (0.02, 0.05, 0.1, 0.3, 0.5, 0.8, 0.95, 0.98)
CLUSTERS = ((1, 0.0), (4, 0.1), (4, 0.5), (4, 0.9), (16, 0.5))
"""Samples a caption, and how alike their hits are."""
CAPTIONS = (20, 60, 200)
DRAWS = 2000
CLOUD = 200
"""Images of each cloud."""
CLOUD_DRAWS = 150
WORLDS = ((2, 0.0), (2, 1.5), (2, 3.0), (2, 4.5), (32, 0.0), (32, 2.0), (32, 3.0), (32, 5.0))
"""Dimensions, and the distance of the samples' cloud from the reference's."""


def main() -> None:
    """Print both tables."""
    print("Coverage in % of 95 % intervals of shares, by the true share")
    print("captions x samples, likeness  " + "".join(f"{share:>7}" for share in SHARES))
    for captions in CAPTIONS:
        for samples, likeness in CLUSTERS:
            found = [100 * _share_coverage(captions, samples, likeness, s) for s in SHARES]
            name = f"{captions} x {samples}, {likeness:g}"
            print(f"{name:<30}" + "".join(f"{value:7.1f}" for value in found), flush=True)
    print("\nCoverage in % (mean score) of precision, recall, density and coverage")
    for samples in (1, 4):
        for dimensions, offset in WORLDS:
            scores = [_scores(dimensions, offset, samples, i) for i in range(CLOUD_DRAWS)]
            shown = (_manifold_cell([one[name] for one in scores]) for name in NAMES)
            print(f"d = {dimensions}, {samples} a caption, {offset:g} apart: ", *shown, flush=True)


def _share_coverage(captions: int, samples: int, likeness: float, share: float) -> float:
    rng = np.random.default_rng([SEED, captions, samples, int(100 * likeness), int(100 * share)])
    ids = [str(i // samples) for i in range(captions * samples)]
    spread = (1 - likeness) / likeness if likeness else 0.0
    covered = 0
    for _ in range(DRAWS):
        rates = np.full(captions, share)
        if likeness:
            rates = rng.beta(share * spread, (1 - share) * spread, captions)
        hits = rng.random((captions, samples)) < rates[:, None]
        found = share_of(hits.ravel(), ids=ids)
        covered += found.low <= share <= found.high
    return covered / DRAWS


def _scores(dimensions: int, offset: float, samples: int, number: int) -> dict[str, ManifoldScore]:
    """Score samples of which those of one caption are alike by half of their variance."""
    rng = np.random.default_rng([SEED, dimensions, int(10 * offset), samples, number])
    fake = rng.normal(size=(CLOUD, dimensions))
    if samples > 1:
        captions = rng.normal(size=(CLOUD // samples, dimensions))
        fake = (fake + np.repeat(captions, samples, axis=0)) / np.sqrt(2)
    fake[:, 0] += offset
    ids = [str(i // samples) for i in range(CLOUD)]
    return dict(prdc(fake, rng.normal(size=(CLOUD, dimensions)), fake_ids=ids))


def _manifold_cell(found: list[ManifoldScore]) -> str:
    truth = np.mean([score.value for score in found])
    covered = [
        score.low <= truth <= score.high
        for score in found
        if score.low is not None and score.high is not None
    ]
    return f"{100 * np.mean(covered):6.1f} ({truth:.2f})"


if __name__ == "__main__":
    main()
