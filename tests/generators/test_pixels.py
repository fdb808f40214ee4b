"""The one conversion of images: exact both ways."""

import torch

from generators.pixels import from_uint8, requantise, to_uint8


def test_round_trip_of_all_levels():
    levels = torch.arange(256, dtype=torch.uint8).reshape(1, 16, 16, 1).expand(2, 16, 16, 3)
    images = from_uint8(levels)
    assert images.shape == (2, 3, 16, 16)
    assert images.min() == -1
    assert images.max() == 1
    assert torch.equal(to_uint8(images), levels)


def test_rounds_to_the_nearest_level_and_clips():
    """254.4 and 254.6 of 255 are 254 and 255; truncation would make both 254."""
    pixels = torch.tensor([254.4, 254.6, 300.0, -7.0]) / 127.5 - 1
    assert to_uint8(pixels.reshape(1, 1, 1, 4)).flatten().tolist() == [254, 255, 255, 0]


def test_requantised_images_are_on_the_levels():
    images = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    once = requantise(images)
    torch.testing.assert_close(once, from_uint8(to_uint8(images)))
    assert torch.equal(once, requantise(once))
