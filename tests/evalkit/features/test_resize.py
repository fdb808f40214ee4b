"""Resizing modes against the tools they are named after."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from cleanfid.resize import build_resizer
from torch_fidelity.interpolate_compat_tensorflow import (
    interpolate_bilinear_2d_like_tensorflow1x,
)

from evalkit.core.errors import ConfigError
from evalkit.features.resize import RESIZE_MODES, resize_for_inception

# float32 on values of about 1, of grids that are computed in another order.
FLOAT32 = 5e-6


def as_batch(image: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(image).permute(2, 0, 1)[None].float()


def as_image(batch: torch.Tensor) -> np.ndarray:
    return batch[0].permute(1, 2, 0).numpy()


def test_tf1_equals_torch_fidelity_bit_for_bit(photographs: list[np.ndarray]) -> None:
    for image in photographs:
        theirs = interpolate_bilinear_2d_like_tensorflow1x(
            as_batch(image), (299, 299), align_corners=False
        )
        np.testing.assert_array_equal(
            resize_for_inception(image, "tf1"), as_image((theirs - 128) / 128)
        )


def test_pytorch_fid_equals_its_interpolation(photographs: list[np.ndarray]) -> None:
    for image in photographs:
        theirs = F.interpolate(
            as_batch(image) / 255, (299, 299), mode="bilinear", align_corners=False
        )
        ours = resize_for_inception(image, "pytorch-fid")
        np.testing.assert_allclose(ours, as_image(2 * theirs - 1), atol=FLOAT32)


def test_torchmetrics_equals_its_antialiased_interpolation(photographs: list[np.ndarray]) -> None:
    for image in photographs:
        theirs = F.interpolate(
            as_batch(image), (299, 299), mode="bilinear", align_corners=False, antialias=True
        )
        ours = resize_for_inception(image, "torchmetrics")
        # torch keeps the centres of its filters in float32, Pillow in float64.
        np.testing.assert_allclose(ours, as_image((theirs - 128) / 128), atol=1e-4)


@pytest.mark.filterwarnings("ignore:.*mode.*parameter is deprecated:DeprecationWarning")
def test_clean_equals_clean_fid(photographs: list[np.ndarray]) -> None:
    theirs = build_resizer("clean")
    for image in photographs:
        expected = (theirs(image) - 128) / 128
        np.testing.assert_allclose(resize_for_inception(image, "clean"), expected, atol=FLOAT32)


@pytest.mark.filterwarnings("ignore")  # clean-fid itself silences all warnings, for good
def test_legacy_pytorch_equals_clean_fid(photographs: list[np.ndarray]) -> None:
    theirs = build_resizer("legacy_pytorch")
    for image in photographs:
        expected = 2 * theirs(image) / 255 - 1
        ours = resize_for_inception(image, "legacy_pytorch")
        np.testing.assert_allclose(ours, expected, atol=FLOAT32)


def test_modes_differ_except_the_two_that_are_one(photographs: list[np.ndarray]) -> None:
    resized = {mode: resize_for_inception(photographs[0], mode) for mode in RESIZE_MODES}
    np.testing.assert_array_equal(resized["legacy_pytorch"], resized["pytorch-fid"])
    distinct = [resized[m] for m in ("tf1", "pytorch-fid", "clean", "torchmetrics")]
    for i, first in enumerate(distinct):
        for second in distinct[i + 1 :]:
            assert np.abs(first - second).max() > 1e-3


def test_unknown_mode_lists_the_modes() -> None:
    with pytest.raises(
        ConfigError, match=r"Unknown resize mode 'bicubic'.*tf1, pytorch-fid, clean"
    ):
        resize_for_inception(np.zeros((4, 4, 3), np.uint8), "bicubic")
