"""Every torchmetrics module on features that are the colours of rows, and two ranks that run it.

Processes that are spawned import this file by its name, which they can't with a file of tests.
"""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any

import numpy as np
import torch

from evalkit.core.errors import NotEnoughImagesError
from evalkit.features.base import PreparedExtractor
from evalkit.metrics import torch_modules as modules
from evalkit.metrics.frechet.moments import Moments

N = 24


class Rows(PreparedExtractor):
    """The mean colour of each row as features."""

    name = "rows"

    def __init__(self) -> None:
        self.layers: Mapping[str, int] = {"main": 4}

    @property
    def identity(self) -> Mapping[str, Any]:
        return {"extractor": "rows"}

    def prepare(self, image: np.ndarray) -> np.ndarray:
        return image.reshape(4, -1).mean(axis=1).astype(np.float32) / 64

    def encode(self, prepared: np.ndarray) -> dict[str, np.ndarray]:
        return {"main": prepared}

    def encode_text(self, captions: Sequence[str]) -> np.ndarray:
        return np.array([[len(c), c.count("1"), c.count("2"), 1] for c in captions], np.float32)


def pictures(seed: int, scale: float = 1.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.integers(0, 256, (N, 4, 3, 3)) * scale).astype(np.uint8)


FAKE, REAL = pictures(0, 0.7), pictures(1)
CAPTIONS = [f"caption {i} {'2' * (i % 5)}" for i in range(N)]


SAME = 1e-9
"""Relative difference of one process and several, whose moments are merged in another order."""
KINDS: dict[str, Callable[..., Any]] = {
    "frechet": modules.FrechetDistance,
    "frechet-moments": lambda e, **o: modules.FrechetDistance(e, interval=False, **o),
    "kid": lambda e, **o: modules.KernelInceptionDistance(e, subsets=4, subset_size=20, **o),
    "cmmd": modules.ClipMaximumMeanDiscrepancy,
    "prdc": lambda e, **o: modules.PrecisionRecallDensityCoverage(e, k=3, **o),
    "is": lambda e, **o: modules.InceptionScore(e, splits=2, **o),
    "clip": modules.ClipScore,
    "r": lambda e, **o: modules.RPrecision(e, distractors=5, **o),
}
WITH_REFERENCE = ("frechet", "frechet-moments", "kid", "cmmd", "prdc")
OF_MOMENTS = ("frechet", "frechet-moments")


def feed(name: str, metric: Any, part: slice = slice(0, N), *, fixed: bool = False) -> None:
    if name in WITH_REFERENCE:
        metric.update(FAKE[part])
        if not fixed:
            metric.update(REAL[part], real=True)
    elif name == "is":
        metric.update(FAKE[part])
    else:
        metric.update(FAKE[part], CAPTIONS[part])


def values(metric: Any) -> dict[str, float]:
    """What compute and records give, by name."""
    found = metric.compute()
    named = found if isinstance(found, dict) else {"value": found}
    computed = {name: float(value) for name, value in named.items()}
    for record in metric.records():
        ends = {"low": record.interval.low, "high": record.interval.high} if record.interval else {}
        for part, number in {"value": record.value, **ends}.items():
            if number is not None:
                computed[f"{record.metric} {part}"] = number
    return computed


def references() -> dict[str, Any]:
    features = Rows().extract(REAL)
    return {
        name: Moments.from_features(features) if name in OF_MOMENTS else features
        for name in WITH_REFERENCE
    }


class Counting(Rows):
    """Two layers, and a count of passes and of embedded captions."""

    name = "counting"

    def __init__(self) -> None:
        self.layers: Mapping[str, int] = {"main": 4, "doubled": 4}
        self.passes = self.texts = 0

    def encode(self, prepared: np.ndarray) -> dict[str, np.ndarray]:
        self.passes += 1
        return {"main": prepared, "doubled": 2 * prepared}

    def encode_text(self, captions: Any) -> np.ndarray:
        self.texts += len(captions)
        return super().encode_text(captions)


def collection(extractor: Any) -> modules.MetricsInOnePass:
    """Every metric, and a Fréchet distance of another layer of the same network."""
    return modules.MetricsInOnePass(
        {
            **{name: kind(extractor) for name, kind in KINDS.items()},
            "sfid": modules.FrechetDistance(extractor, layer="doubled"),
        }
    )


SHARDS: dict[str, tuple[slice, slice]] = {
    "second empty": (slice(0, N), slice(N, N)),
    "first empty": (slice(0, 0), slice(0, N)),
    "unequal": (slice(0, 7), slice(7, N)),
    "interleaved": (slice(0, N, 2), slice(1, N, 2)),
}
IN_ORDER = ("second empty", "first empty", "unequal")
"""Those after which the images are in the order of one process."""
OF_ANY_ORDER = {
    "frechet": ("value",),
    "frechet-moments": ("value",),
    "kid": ("kid-full value", "kid-full low"),
    "cmmd": ("value", "cmmd-unbiased low"),
    "prdc": ("precision", "recall", "density", "coverage"),
    "clip": ("value", "clip-score low"),
    "r": ("value", "r-precision low"),
}
"""Numbers that no draw by place decides."""


def run_rank(rank: int, folder: str) -> None:
    """Compute every metric of every sharding; an error is stored, so that no rank waits for it."""
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    torch.distributed.init_process_group(
        "gloo",
        init_method=f"file://{folder}/rendezvous",
        rank=rank,
        world_size=2,
        timeout=timedelta(seconds=60),
    )
    try:
        found: dict[str, Any] = {}
        for shards, parts in SHARDS.items():
            images = parts[rank]
            for fixed in (False, True):
                for name, kind in KINDS.items():
                    if fixed and name not in WITH_REFERENCE:
                        continue
                    metric = kind(Rows(), **({"reference": references()[name]} if fixed else {}))
                    # A rank without images has no batch, so it never calls update.
                    if images.stop > images.start:
                        feed(name, metric, images, fixed=fixed)
                    found[f"{shards}, {name}, {fixed}"] = values(metric)
                    # The own states are back, so accumulating goes on.
                    found[f"{shards}, {name}, {fixed}, again"] = values(metric)
            together = collection(Counting())
            if images.stop > images.start:
                together.update(FAKE[images], CAPTIONS[images])
                together.update(REAL[images], real=True)
            found[f"{shards}, together"] = {n: float(v) for n, v in together.compute().items()}
        metric = modules.KernelInceptionDistance(Rows())
        metric.update(FAKE[: 1 - rank])
        try:
            metric.compute()
        except NotEnoughImagesError:
            found["own state"] = {"rows": float(len(metric._array("fake")))}
    except BaseException:
        found = {"error": traceback.format_exc()}
    torch.save(found, f"{folder}/rank{rank}.pt")
    torch.distributed.destroy_process_group()
