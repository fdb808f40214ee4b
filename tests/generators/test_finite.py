"""A network that returns NaN or infinity makes failed samples, never black or white images."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from operator import attrgetter

import numpy as np
import pytest
import torch

from generators.base import Request, resolve_settings
from generators.catalog import load_generator
from generators.errors import NonFiniteImageError
from generators.finite import BatchFaults, watching
from generators.pixels import to_uint8

FEW_STEPS = {
    "glide:tiny": "base=2,upsampler=1",
    "imagen:tiny": "base=2,sr1=1,sr2=1",
    "unclip:tiny": "prior=2,base=2,sr1=1,sr2=1",
    "unclip:tiny-ar": "base=1,sr1=1,sr2=1",
    "dalle:tiny": None,
    "ddpm:tiny": "2",
    "ddpm:tiny-class": "2",
}
NETWORKS = [
    ("glide:tiny", "base.network", "base"),
    ("glide:tiny", "upsampler.network", "upsampler"),
    ("imagen:tiny", "base.network", "base"),
    ("imagen:tiny", "upsamplers.sr1.network", "sr1"),
    ("imagen:tiny", "upsamplers.sr2.network", "sr2"),
    ("unclip:tiny", "prior.network", "prior"),
    ("unclip:tiny", "decoder.network", "base"),
    ("unclip:tiny", "upsamplers.sr1.network", "sr1"),
    ("unclip:tiny", "upsamplers.sr2.network", "sr2"),
    ("unclip:tiny-ar", "prior.network.out", "prior"),
    ("dalle:tiny", "transformer.to_image", "transformer"),
    ("dalle:tiny", "decoder", "decoder"),
    ("ddpm:tiny", "network", "base"),
    ("ddpm:tiny-class", "network", "base"),
    ("ddpm:tiny-class", "classifier", "base"),
]
"""Model, network in its generator, and the stage that its failed samples name."""

_loaded = {}


def loaded(name):
    """Return a generator, its settings and its sound samples, made once."""
    if name not in _loaded:
        generator = load_generator(name)
        if hasattr(generator, "upsamplers"):
            generator.upsamplers = Named(generator.upsamplers)
        settings = resolve_settings(generator.spec, steps=FEW_STEPS[name])
        _loaded[name] = generator, settings, generator.generate(requests(generator), settings)
    return _loaded[name]


class Named(dict):
    """Upsamplers by name, as attributes too."""

    __getattr__ = dict.__getitem__


@contextmanager
def spoiling(network, value, row) -> Iterator[None]:
    """Put a value into one of two rows of what a network returns, in both halves of guidance."""

    def spoil(module, inputs, output):
        spoiled = output.flatten(1).clone()
        spoiled[row::2, -1] = value
        return spoiled.view(output.shape)

    handle = network.register_forward_hook(spoil)
    try:
        yield
    finally:
        handle.remove()


def requests(generator):
    if generator.spec.conditioning == "text":
        return [Request(prompt="a red circle", seed=1), Request(prompt="a blue star", seed=2)]
    label = 1 if generator.spec.conditioning == "class" else None
    return [Request(label=label, seed=1), Request(label=label, seed=2)]


@pytest.mark.parametrize(("model", "path", "stage"), NETWORKS)
def test_one_bad_image_of_a_batch_fails_alone(model, path, stage):
    generator, settings, sound = loaded(model)
    value = math.inf if path.endswith("upsampler.network") or "sr" in stage else math.nan
    with spoiling(attrgetter(path)(generator), value, row=0):
        failed, other = generator.generate(requests(generator), settings)
    assert (failed.image, failed.status) == (None, "failed")
    assert f"stage {stage} returned NaN or infinity" in failed.reason
    assert other.status == "ok"
    np.testing.assert_array_equal(other.image, sound[1].image)


@pytest.mark.parametrize("model", ["glide:tiny", "dalle:tiny"])
def test_damaged_weights_fail_every_image(model):
    generator = load_generator(model)
    network = generator.transformer if model == "dalle:tiny" else generator.base.network
    damaged = list(network.parameters())[-1]
    damaged.data = torch.full_like(damaged, math.nan)
    settings = resolve_settings(generator.spec, steps=FEW_STEPS[model])
    samples = generator.generate(requests(generator), settings)
    assert [sample.status for sample in samples] == ["failed", "failed"]


def test_the_first_stage_that_failed_is_named():
    faults = BatchFaults(2)
    faults.at("base").see(torch.tensor([[0.0], [math.nan]]))
    mended = faults.at("sr1").mend(torch.tensor([[math.inf, 1.0], [2.0, 3.0]]))
    assert mended.tolist() == [[0.0, 0.0], [0.0, 0.0]]
    assert [reason.split()[4] for reason in faults.reasons()] == ["sr1", "base"]


def test_both_halves_of_guidance_belong_to_one_image():
    faults = BatchFaults(2)
    faults.at("base").see(torch.tensor([[0.0], [0.0], [0.0], [math.nan]]))
    assert [bool(reason) for reason in faults.reasons()] == [False, True]


def test_a_pipeline_of_other_code_is_watched():
    network, faults = torch.nn.Linear(1, 1), BatchFaults(2)
    with watching(network, faults.at("unet")):
        network(torch.tensor([[1.0], [math.nan]]))
    network(torch.full((2, 1), math.nan))  # no longer watched
    assert [bool(reason) for reason in faults.reasons()] == [False, True]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_pixels_are_never_made_of_what_is_not_a_number(value):
    images = torch.zeros(3, 3, 2, 2)
    images[1, 0, 0, 0] = value
    with pytest.raises(NonFiniteImageError, match="1 of 3 images"):
        to_uint8(images)
