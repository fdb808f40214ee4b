"""What every generator promises."""

import numpy as np

from generators.base import Request, resolve_settings
from generators.catalog import load_generator


def test_an_image_depends_on_its_prompt_seed_and_settings_alone() -> None:
    model = load_generator("mine/gradient")
    settings = resolve_settings(model.spec)
    asked = [Request(prompt="a red circle", seed=1), Request(prompt="a blue square", seed=2)]
    both = [sample.image for sample in model.generate(asked, settings)]
    alone = model.generate(asked[1:], settings)[0].image
    assert both[0] is not None
    assert both[0].dtype == np.uint8
    assert both[0].shape == (model.spec.size_px, model.spec.size_px, 3)
    np.testing.assert_array_equal(both[1], alone)
    other = model.generate([Request(prompt="a blue square", seed=3)], settings)[0].image
    assert not np.array_equal(other, alone)
    changed = resolve_settings(model.spec, steps="2", options="contrast=0.5")
    assert not np.array_equal(model.generate(asked[1:], changed)[0].image, alone)
