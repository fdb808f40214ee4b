"""Every metric as a torchmetrics.Metric: the function's value, however batched and wherever."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
import torch
import torch.multiprocessing
from torch_metrics import CAPTIONS, FAKE, REAL, N, Rows

from evalkit.core.arrays import as_array
from evalkit.core.errors import DataError
from evalkit.features.clip import load_clip
from evalkit.metrics import torch_modules as modules
from evalkit.metrics.clip_score import clip_score
from evalkit.metrics.cmmd import cmmd
from evalkit.metrics.frechet.distance import frechet_distance_from_features
from evalkit.metrics.inception_score import inception_score
from evalkit.metrics.kid import kid
from evalkit.metrics.prdc import prdc
from evalkit.metrics.r_precision import caption_key, r_precision


def expected() -> dict[str, float]:
    rows = Rows()
    x, y, t = rows.extract(FAKE), rows.extract(REAL), rows.encode_text(CAPTIONS)
    keys = [caption_key(caption) for caption in CAPTIONS]
    return {
        "frechet": frechet_distance_from_features(x, y),
        "kid": kid(x, y, subsets=4, subset_size=20).value,
        "cmmd": cmmd(x, y).value,
        "precision": prdc(x, y, k=3)["precision"].value,
        "is": inception_score(x, splits=1).value,
        "clip": clip_score(x, t).value,
        "r": r_precision(x, t, keys, distractors=5).value,
    }


def built() -> dict[str, Any]:
    rows = Rows()
    return {
        "frechet": modules.FrechetDistance(rows),
        "kid": modules.KernelInceptionDistance(rows, subsets=4, subset_size=20),
        "cmmd": modules.ClipMaximumMeanDiscrepancy(rows),
        "precision": modules.PrecisionRecallDensityCoverage(rows, k=3),
        "is": modules.InceptionScore(rows, splits=1),
        "clip": modules.ClipScore(rows),
        "r": modules.RPrecision(rows, distractors=5),
    }


def feed(name: str, metric: Any, start: int, stop: int) -> None:
    if name in ("frechet", "kid", "cmmd", "precision"):
        metric.update(FAKE[start:stop], real=False)
        metric.update(torch.from_numpy(REAL[start:stop]), real=True)
    elif name == "is":
        metric.update(FAKE[start:stop])
    else:
        metric.update(FAKE[start:stop], CAPTIONS[start:stop])


def value_of(name: str, metric: Any) -> float:
    found = metric.compute()
    return float(found["precision"] if name == "precision" else found)


@pytest.mark.parametrize("step", [N, 5])
def test_values_are_those_of_the_functions(step: int) -> None:
    for name, metric in built().items():
        for start in range(0, N, step):
            feed(name, metric, start, start + step)
        assert value_of(name, metric) == pytest.approx(expected()[name], rel=1e-9), name
        assert metric.higher_is_better == (name not in ("frechet", "kid", "cmmd"))


def test_reset_forgets_and_states_can_be_saved() -> None:
    metric = modules.FrechetDistance(Rows())
    feed("frechet", metric, 0, N)
    metric.persistent(True)
    restored = modules.FrechetDistance(Rows())
    restored.persistent(True)
    restored.load_state_dict(metric.state_dict())
    metric.reset()
    assert float(metric.fake[0, 0]) == 0
    found = frechet_of(restored)
    assert found == pytest.approx(expected()["frechet"], rel=1e-12)


def frechet_of(metric: modules.FrechetDistance) -> float:
    from evalkit.metrics.frechet.distance import frechet_distance

    return frechet_distance(modules.unpack(metric.fake), modules.unpack(metric.real))


def test_memory_of_the_frechet_distance_does_not_grow() -> None:
    metric = modules.FrechetDistance(Rows())
    for _ in range(3):
        feed("frechet", metric, 0, N)
        assert metric.fake.shape == (5, 5)


class TestBatches:
    """What an update takes, and what it refuses before anything is added."""

    @pytest.mark.parametrize("kind", [modules.ClipScore, modules.RPrecision])
    def test_one_text_is_the_caption_of_every_image(self, kind: type) -> None:
        options = {"distractors": 1} if kind is modules.RPrecision else {}
        text, listed = kind(Rows(), **options), kind(Rows(), **options)
        for metric, captions in ((text, "a 1"), (listed, ["a 1"] * 3)):
            metric.update(FAKE[:3], captions)
            metric.update(FAKE[3:6], ["b 2", "c", "d 11"])
        assert text.compute() == listed.compute()

    @pytest.mark.parametrize("kind", [modules.ClipScore, modules.RPrecision])
    @pytest.mark.parametrize("captions", [["a"] * 5, ["a"] * 7, []])
    def test_captions_that_do_not_fit_are_refused_at_once(
        self, kind: type, captions: list[str]
    ) -> None:
        metric = kind(Rows())
        with pytest.raises(DataError, match="give one caption per image"):
            metric.update(FAKE[:6], captions)
        assert len(metric.images) == len(metric.captions) == 0

    def test_tensors_are_taken_and_floats_refused(self) -> None:
        arrays, tensors = modules.FrechetDistance(Rows()), modules.FrechetDistance(Rows())
        for metric, convert in ((arrays, np.asarray), (tensors, torch.from_numpy)):
            metric.update(convert(FAKE), real=False)
            metric.update(list(convert(REAL)), real=True)
        assert arrays.compute() == tensors.compute()
        for dtype in (torch.bfloat16, torch.float32):
            floats = torch.from_numpy(FAKE).to(dtype).requires_grad_()
            with pytest.raises(DataError, match="Images are float32, expected uint8"):
                tensors.update(floats, real=False)

    def test_every_metric_pickles(self) -> None:
        for kind in (
            modules.FrechetDistance,
            modules.KernelInceptionDistance,
            modules.ClipMaximumMeanDiscrepancy,
            modules.PrecisionRecallDensityCoverage,
            modules.InceptionScore,
            modules.ClipScore,
            modules.RPrecision,
        ):
            pickle.loads(pickle.dumps(kind(load_clip("shapes-clip"))))

    def test_an_extractor_that_prepares_unequal_sizes_is_named(self) -> None:
        class Uneven(Rows):
            def prepare(self, image: np.ndarray) -> np.ndarray:
                return image[: 1 + image[0, 0, 0] % 2]

        with pytest.raises(DataError, match="rows prepared images of 2 shapes"):
            modules.FrechetDistance(Uneven()).update(FAKE, real=True)


class TestFeatureTensors:
    """Features as tensors of any kind give the numbers of arrays."""

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
    def test_precisions_and_gradients(self, dtype: torch.dtype) -> None:
        torch.manual_seed(0)
        fake, real = (torch.randn(12, 3).to(dtype).requires_grad_() for _ in range(2))
        arrays = [one.detach().double().numpy() for one in (fake, real)]
        for compute in (kid, cmmd, frechet_distance_from_features, clip_score):
            found, expected = compute(fake, real), compute(*arrays)
            assert getattr(found, "value", found) == getattr(expected, "value", expected)

    def test_a_list_of_tensors(self) -> None:
        rows = [torch.ones(2, dtype=torch.bfloat16).requires_grad_() for _ in range(3)]
        assert as_array(rows).tolist() == [[1.0, 1.0]] * 3
