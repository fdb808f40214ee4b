"""JPEG files decoded by torchvision: which, how near to Pillow's, and what records say."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from evalkit.core.errors import ConfigError, DataError
from evalkit.core.pixels import is_plain_jpeg, read_rgb
from evalkit.features.preparing import (
    decoding_workers,
    reference_preparation,
    sample_preparation,
)
from evalkit.features.sources import ImageItem, Preparation, load_image
from evalkit.options import MeasureOptions


def photograph() -> Image.Image:
    x, y = np.meshgrid(np.arange(48), np.arange(40))
    return Image.fromarray(np.stack([5 * x, 6 * y, 2 * (x + y)], axis=2).astype(np.uint8))


def saved(image: Image.Image, form: str = "JPEG", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def loaded(data: bytes, folder: Path) -> np.ndarray:
    path = folder / "image.jpg"
    path.write_bytes(data)
    return load_image(ImageItem(path), Preparation(jpeg_device="cpu"))


def test_torchvision_decodes_nearly_what_pillow_does(tmp_path: Path) -> None:
    data = saved(photograph(), quality=92)
    found = loaded(data, tmp_path)
    difference = np.abs(found.astype(int) - read_rgb(data))
    assert found.shape == (40, 48, 3)
    assert difference.max() <= 8
    assert difference.mean() < 1


@pytest.mark.parametrize(
    ("data", "plain"),
    [
        (saved(photograph()), True),
        (saved(photograph().convert("L")), False),
        (saved(photograph().convert("CMYK")), False),
        (saved(photograph(), "PNG"), False),
        (saved(photograph())[:40], False),
        (b"", False),
    ],
)
def test_only_upright_files_of_three_channels_are_plain(data: bytes, plain: bool) -> None:
    assert is_plain_jpeg(data) == plain


def test_a_turned_image_is_left_to_pillow(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = saved(photograph(), exif=exif)
    assert not is_plain_jpeg(data)
    found = loaded(data, tmp_path)
    assert np.array_equal(found, read_rgb(data))
    assert found.shape == (48, 40, 3)


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"image\.jpg"):
        loaded(saved(photograph(), quality=95)[:700], tmp_path)


def test_records_say_who_decoded() -> None:
    options = MeasureOptions(jpeg="device", device="cuda:1")
    for preparation in (reference_preparation(options), sample_preparation(options)):
        assert preparation.identity()["jpeg"] == "torchvision, cuda"
    assert decoding_workers(options) == 0
    assert "jpeg" not in reference_preparation(MeasureOptions()).identity()
    with pytest.raises(ConfigError, match="Unknown --jpeg 'gpu'; use pillow or device"):
        reference_preparation(MeasureOptions(jpeg="gpu"))
