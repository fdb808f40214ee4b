"""Simulated worlds of features whose Fréchet distance is known exactly.

Each world draws samples and reference images of features, and states mean and covariance of both
populations. What a world is called says what is hard about it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np

from evalkit.metrics.frechet.distance import frechet_distance
from evalkit.metrics.frechet.moments import Moments

Rng = np.random.Generator
Draw = Callable[[int, Rng], np.ndarray]
POOL = 8_000
"""Crops of photographs in each population."""


@dataclass(frozen=True)
class World:
    """Two populations of features."""

    fake: Draw
    real: Draw
    fake_moments: Moments
    real_moments: Moments
    fake_of: Callable[[np.ndarray], np.ndarray] | None = None
    """Samples from standard normals, images x d, where the world is made of such."""
    real_of: Callable[[np.ndarray], np.ndarray] | None = None

    @property
    def truth(self) -> float:
        """Their Fréchet distance."""
        return frechet_distance(self.fake_moments, self.real_moments)


WORLDS = (
    "flat", "1/k", "relu", "t10", "log-normal", "mixture", "photographs", "rare", "outliers",
)  # fmt: skip


@cache
def world(name: str, d: int) -> World:
    """Build a world of d dimensions; its constants are drawn from a seed of its own."""
    rng = np.random.default_rng([20261129, WORLDS.index(name), d])
    if name == "photographs":
        return _of_pools(*_photographs(d, rng))
    if name == "relu":
        first = rng.normal(size=(d, d)) / np.sqrt(d)
        second = first + 0.15 * rng.normal(size=(d, d)) / np.sqrt(d)
        fake_of = lambda z: np.maximum(z @ second.T, 0)  # noqa: E731
        real_of = lambda z: np.maximum(z @ first.T, 0)  # noqa: E731
        return World(
            lambda n, r: fake_of(r.normal(size=(n, d))),
            lambda n, r: real_of(r.normal(size=(n, d))),
            _relu_moments(second),
            _relu_moments(first),
            fake_of,
            real_of,
        )
    if name == "rare":
        return _rare(d, rng)
    unit, variance = _UNITS[name]
    basis, _ = np.linalg.qr(rng.normal(size=(d, d)))
    spectrum = np.ones(d) if name == "flat" else 1 / np.arange(1, d + 1.0)
    first = basis * np.sqrt(spectrum)
    turn = np.eye(d) + 0.15 * rng.normal(size=(d, d)) / np.sqrt(d)
    second = 1.1 * turn @ first
    shift = 0.1 * rng.normal(size=d) * np.sqrt(spectrum.mean())
    fake_of = lambda z: z @ second.T + shift  # noqa: E731
    real_of = lambda z: z @ first.T  # noqa: E731
    return World(
        lambda n, r: fake_of(unit(r, n, d)),
        lambda n, r: real_of(unit(r, n, d)),
        Moments.from_statistics(shift, variance * second @ second.T),
        Moments.from_statistics(np.zeros(d), variance * first @ first.T),
        fake_of,
        real_of,
    )


def _gaussian(rng: Rng, n: int, d: int) -> np.ndarray:
    return rng.normal(size=(n, d))


def _student(rng: Rng, n: int, d: int) -> np.ndarray:
    return rng.standard_t(10, size=(n, d))


def _log_normal(rng: Rng, n: int, d: int) -> np.ndarray:
    return np.exp(0.5 * rng.normal(size=(n, d))) - np.exp(0.125)


def _mixture(rng: Rng, n: int, d: int) -> np.ndarray:
    """Each image has one of two scales, 1 or 2, with equal probability."""
    scale = np.where(rng.random(n) < 0.5, 2.0, 1.0)
    return rng.normal(size=(n, d)) * scale[:, None]


def _outliers(rng: Rng, n: int, d: int) -> np.ndarray:
    """Draw images, a fifth of which have features four times as large as the others'."""
    scale = np.where(rng.random(n) < 0.2, 2.0, 0.5)
    return rng.normal(size=(n, d)) * scale[:, None]


_UNITS: dict[str, tuple[Callable[[Rng, int, int], np.ndarray], float]] = {
    "flat": (_gaussian, 1.0),
    "1/k": (_gaussian, 1.0),
    "t10": (_student, 10 / 8),
    "log-normal": (_log_normal, float(np.exp(0.25) * (np.exp(0.25) - 1))),
    "mixture": (_mixture, 0.5 * 4 + 0.5 * 1),
    "outliers": (_outliers, 0.2 * 4 + 0.8 * 0.25),
}
"""How independent coordinates are drawn, and their variance."""


def _relu_moments(weights: np.ndarray) -> Moments:
    """Exact moments of max(W u, 0), by the arc-cosine kernel (Cho & Saul 2009)."""
    product = weights @ weights.T
    deviation = np.sqrt(np.diag(product))
    scales = np.outer(deviation, deviation)
    cosine = np.clip(product / scales, -1, 1)
    second = scales / (2 * np.pi)
    second *= np.sqrt(1 - cosine**2) + cosine * (np.pi - np.arccos(cosine))
    mean = deviation / np.sqrt(2 * np.pi)
    return Moments.from_statistics(mean, second - np.outer(mean, mean))


def _rare(d: int, rng: Rng) -> World:
    """ReLU features, of which a quarter fire in 0.2 to 1 % of images only."""
    few = d // 4
    dense = world("relu", d - few)
    chance = rng.uniform(0.002, 0.01, few)
    size = {"fake": rng.uniform(1.0, 1.4, few), "real": np.ones(few)}

    def draw(which: str, rest: Draw) -> Draw:
        def drawn(n: int, r: Rng) -> np.ndarray:
            fires = r.random((n, few)) < chance
            values = fires * size[which] * np.abs(1 + 0.3 * r.normal(size=(n, few)))
            return np.hstack([rest(n, r), values])

        return drawn

    def moments(which: str, rest: Moments) -> Moments:
        # |1 + 0.3 z|: its folded mean differs from 1 by less than 1e-4; both are exact here.
        first, second = _folded(1.0, 0.3)
        mean = chance * size[which] * first
        variance = chance * size[which] ** 2 * second - mean**2
        covariance = np.zeros((d, d))
        covariance[: d - few, : d - few] = rest.covariance
        covariance[range(d - few, d), range(d - few, d)] = variance
        return Moments.from_statistics(np.concatenate([rest.mean, mean]), covariance)

    return World(
        draw("fake", dense.fake),
        draw("real", dense.real),
        moments("fake", dense.fake_moments),
        moments("real", dense.real_moments),
    )


def _folded(mean: float, deviation: float) -> tuple[float, float]:
    """First and second moment of |N(mean, deviation^2)|."""
    from scipy.stats import norm

    ratio = mean / deviation
    first = deviation * 2 * norm.pdf(ratio) + mean * (1 - 2 * norm.cdf(-ratio))
    return float(first), mean**2 + deviation**2


def _of_pools(fake: np.ndarray, real: np.ndarray) -> World:
    """Images are drawn from two finite pools, with replacement."""

    def of(pool: np.ndarray) -> Moments:
        return Moments.from_statistics(pool.mean(axis=0), np.cov(pool.T, ddof=0))

    return World(
        lambda n, rng: fake[rng.integers(len(fake), size=n)],
        lambda n, rng: real[rng.integers(len(real), size=n)],
        of(fake),
        of(real),
    )


def _photographs(d: int, rng: Rng) -> tuple[np.ndarray, np.ndarray]:
    """Random convolution features of crops of the photographs that two libraries ship.

    Crops of all photographs against crops of the same that were smoothed a little.
    """
    from skimage import data
    from sklearn.datasets import load_sample_images

    pictures = [data.astronaut(), data.coffee(), data.chelsea(), data.rocket(), data.retina()]
    pictures += list(load_sample_images().images)
    filters = rng.normal(size=(d, 8 * 8 * 3)) / 8
    pools = []
    for smooth in (True, False):
        rows = np.empty((POOL, d))
        for index in range(POOL):
            picture = pictures[rng.integers(len(pictures))]
            size = int(rng.integers(24, 128))
            top = rng.integers(picture.shape[0] - size)
            left = rng.integers(picture.shape[1] - size)
            step = size // 16
            crop = picture[top : top + 16 * step : step, left : left + 16 * step : step, :3] / 255.0
            if smooth:
                crop = (crop + np.roll(crop, 1, 0) + np.roll(crop, 1, 1)) / 3
            patches = [crop[y : y + 8, x : x + 8].ravel() for y in (0, 4, 8) for x in (0, 4, 8)]
            rows[index] = np.maximum(np.asarray(patches) @ filters.T - 0.2, 0).mean(axis=0)
        pools.append(rows)
    return pools[0], pools[1]
