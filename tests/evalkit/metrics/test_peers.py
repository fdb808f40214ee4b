"""Ours against torch-fidelity, pytorch-fid, torchmetrics and prdc on the same features."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from prdc import compute_prdc
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.metric_isc import isc_features_to_metric
from torch_fidelity.metric_kid import kid_features_to_metric
from torch_fidelity.metric_prc import prc_features_to_metric

from evalkit.metrics import Moments, frechet_distance, frechet_distance_from_features
from evalkit.metrics.inception_score import inception_score
from evalkit.metrics.kid import kid
from evalkit.metrics.prdc import prdc
from tests.reference.plain_frechet import frechet_low_rank

Both = tuple[Any, Any]
LAYER = "192"

FEATURES = 1e-5
# Their means are float32, which is what the rest of the difference comes from.
FID_TORCH_FIDELITY = 1e-6
FID_OTHERS = 1e-5
# Where n <= d their formula takes roots of eigenvalues that are rounding noise; ours is exact.
FID_LOW_RANK = 1e-6
FID_LOW_RANK_PEER = 1e-3
KID_COMMAND = 1e-6
KID_FLOAT64 = 1e-9
SCORES = 1e-6
MAGNIFIED = 1e-4


def relative(ours: np.ndarray, theirs: np.ndarray) -> float:
    return float(np.linalg.norm(ours - theirs) / np.linalg.norm(theirs))


def theirs_fid(fake: np.ndarray, real: np.ndarray) -> float:
    statistics = [fid_features_to_statistics(torch.from_numpy(x)) for x in (fake, real)]
    return float(fid_statistics_to_metric(*statistics, False)["frechet_inception_distance"])


def test_features(shallow: Both, deep: Both) -> None:
    for found in (*shallow, *deep):
        for layer in found.ours:
            assert relative(found.ours[layer], found.theirs[layer]) < FEATURES


def test_fid_at_full_rank(shallow: Both) -> None:
    fake, real = shallow
    ours = frechet_distance(
        Moments.from_features(fake.ours[LAYER]), Moments.from_features(real.ours[LAYER])
    )
    assert ours > 0.01
    theirs = theirs_fid(fake.theirs[LAYER], real.theirs[LAYER])
    assert ours == pytest.approx(theirs, rel=FID_TORCH_FIDELITY)


def test_fid_where_images_are_fewer_than_dimensions(deep: Both) -> None:
    fake, real = (x.ours["2048"] for x in deep)
    ours = frechet_distance_from_features(fake, real)
    exact = frechet_low_rank(fake.astype(np.float64), real.astype(np.float64))
    assert ours == pytest.approx(exact, rel=FID_LOW_RANK)


def test_fid_against_torch_fidelity_below_full_rank(shallow: Both) -> None:
    fake, real = (x.theirs[LAYER][:100] for x in shallow)
    ours = frechet_distance_from_features(fake, real)
    assert ours == pytest.approx(theirs_fid(fake, real), rel=FID_LOW_RANK_PEER)


# scipy 1.18 will drop the argument that pytorch-fid passes to sqrtm.
@pytest.mark.filterwarnings("ignore:The .disp. argument:DeprecationWarning")
# It takes the root of a product, whose condition is the square of a covariance's.
@pytest.mark.filterwarnings("ignore:Matrix is singular:scipy.linalg.LinAlgWarning")
def test_fid_of_pytorch_fid(shallow: Both) -> None:
    from pytorch_fid.fid_score import calculate_frechet_distance

    fake, real = (x.ours[LAYER].astype(np.float64) for x in shallow)
    theirs = calculate_frechet_distance(fake.mean(0), np.cov(fake.T), real.mean(0), np.cov(real.T))
    assert frechet_distance_from_features(fake, real) == pytest.approx(theirs, rel=FID_OTHERS)


def test_fid_of_torchmetrics(
    shallow: Both, picture_sets: tuple[np.ndarray, np.ndarray], inception_weights: Path
) -> None:
    from torchmetrics.image.fid import FrechetInceptionDistance

    peer = FrechetInceptionDistance(
        feature=64, feature_extractor_weights_path=str(inception_weights), antialias=False
    )
    peer.set_dtype(torch.float64)
    few = [torch.from_numpy(images[:80]).permute(0, 3, 1, 2) for images in picture_sets]
    peer.update(few[0], real=False)
    peer.update(few[1], real=True)
    from evalkit.features.inception import InceptionExtractor

    ours = InceptionExtractor(("64",), weights=inception_weights)
    features = [ours.extract(images[:80]) for images in picture_sets]
    found = frechet_distance_from_features(*features)
    assert found == pytest.approx(float(peer.compute()), rel=FID_OTHERS)


class TestKid:
    OPTIONS = {"kid_subsets": 10, "kid_subset_size": 20, "rng_seed": 2020, "verbose": False}  # noqa: RUF012

    def ours(self, fake: np.ndarray, real: np.ndarray) -> Any:
        return kid(fake, real, subsets=10, subset_size=20, seed=2020)

    def test_as_their_command_does_it(self, deep: Both) -> None:
        fake, real = deep
        theirs = kid_features_to_metric(
            torch.from_numpy(fake.theirs["2048"]),
            torch.from_numpy(real.theirs["2048"]),
            **self.OPTIONS,
        )
        found = self.ours(fake.ours["2048"], real.ours["2048"])
        scale = max(1.0, abs(theirs["kernel_inception_distance_mean"]))
        assert found.value == pytest.approx(
            theirs["kernel_inception_distance_mean"], abs=KID_COMMAND * scale
        )

    def test_their_function_in_float64(self, deep: Both) -> None:
        fake, real = (x.ours["2048"].astype(np.float64) for x in deep)
        theirs = kid_features_to_metric(
            torch.from_numpy(fake), torch.from_numpy(real), **self.OPTIONS
        )
        found = self.ours(fake, real)
        assert found.value == pytest.approx(
            theirs["kernel_inception_distance_mean"], rel=KID_FLOAT64
        )
        assert found.deviation == pytest.approx(
            theirs["kernel_inception_distance_std"], rel=KID_FLOAT64
        )


def test_inception_score(deep: Both) -> None:
    """On weights whose last layer is scaled: a score of 1 would prove nothing."""
    found = deep[0]
    theirs = isc_features_to_metric(torch.from_numpy(found.theirs["logits_unbiased"]), splits=4)
    same = inception_score(found.theirs["logits_unbiased"], splits=4)
    assert same.value > 2
    assert same.value == pytest.approx(theirs["inception_score_mean"], abs=SCORES)
    assert same.deviation == pytest.approx(theirs["inception_score_std"], abs=SCORES)
    # From our own features, whose float32 rounding the scaled layer magnifies.
    ours = inception_score(found.ours["logits_unbiased"], splits=4)
    assert ours.value == pytest.approx(theirs["inception_score_mean"], rel=MAGNIFIED)


@pytest.mark.parametrize("k", [3, 5])
def test_precision_and_recall_of_torch_fidelity(shallow: Both, k: int) -> None:
    fake, real = shallow
    theirs = prc_features_to_metric(
        torch.from_numpy(fake.theirs[LAYER]),
        torch.from_numpy(real.theirs[LAYER]),
        prc_neighborhood=k,
        prc_batch_size=100,
        save_cpu_ram=False,
        verbose=False,
    )
    ours = prdc(fake.ours[LAYER], real.ours[LAYER], k=k)
    assert 0 < ours["precision"].value < 1
    assert ours["precision"].value == pytest.approx(theirs["precision"], abs=SCORES)
    assert ours["recall"].value == pytest.approx(theirs["recall"], abs=SCORES)


@pytest.mark.parametrize("k", [3, 5])
def test_all_four_of_prdc(shallow: Both, k: int) -> None:
    fake, real = (x.ours[LAYER].astype(np.float64) for x in shallow)
    theirs = compute_prdc(real_features=real, fake_features=fake, nearest_k=k)
    ours = prdc(fake, real, k=k)
    assert {name: ours[name].value for name in theirs} == pytest.approx(theirs, abs=1e-12)
