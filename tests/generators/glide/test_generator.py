"""GLIDE behind the Generator interface: the shipped one, and the released format end to end."""

from __future__ import annotations

import dataclasses
import gzip
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from evalkit.core.errors import ConfigError, MissingWeightsError, WeightsError
from generators.base import Request, resolve_settings
from generators.catalog import load_generator
from generators.errors import UnsafeWeightsError, UnsupportedRequestError
from generators.glide import loaders as module
from generators.glide.generator import GlideGenerator
from generators.glide.model import (
    InpaintText2ImUNet,
    SuperResInpaintText2ImUNet,
    SuperResText2ImUNet,
    Text2ImUNet,
)
from generators.glide.presets import RELEASED
from generators.tokenizer import tiny_tokenizer, train_merges, vocabulary
from generators.training.checkpoint import export_weights
from generators.weights.zoo import zoo_weights

QUICK = {"steps": "base=6,upsampler=2"}


@pytest.fixture(scope="module")
def tiny() -> GlideGenerator:
    generator = load_generator("glide:tiny")
    assert isinstance(generator, GlideGenerator)
    return generator


def test_an_image_depends_on_its_seed_and_prompt_alone(tiny: GlideGenerator) -> None:
    settings = resolve_settings(tiny.spec, **QUICK)
    asked = Request(prompt="a red circle", seed=5)
    others = [Request(prompt="a blue square", seed=s) for s in (5, 6)]
    alone = tiny.generate([asked], settings)[0].image
    among = tiny.generate([*others, asked], settings)[2].image
    assert alone is not None
    assert among is not None
    assert alone.shape == (64, 64, 3)
    assert alone.dtype == np.uint8
    assert np.abs(alone.astype(int) - among).max() <= 1
    again = tiny.generate([asked, dataclasses.replace(asked, seed=6)], settings)
    assert not np.array_equal(again[0].image, again[1].image)


def test_options_of_the_base_matter(tiny: GlideGenerator) -> None:
    asked = [Request(prompt="a red circle", seed=5)]

    def image(options: str | None) -> np.ndarray | None:
        return tiny.generate(asked, resolve_settings(tiny.spec, **QUICK, options=options))[0].image

    assert not np.array_equal(image(None), image("base.threshold=dynamic"))
    with pytest.raises(ConfigError, match="must be 0 to 1000, got -1"):
        image("base.clip_guidance=-1")


def test_clip_guides_a_base_of_shapes_by_default_and_no_other(
    tiny: GlideGenerator, tmp_path: Path
) -> None:
    asked = [Request(prompt="a red circle left of a blue square", seed=5)]

    def image(options: str | None) -> np.ndarray | None:
        return tiny.generate(asked, resolve_settings(tiny.spec, **QUICK, options=options))[0].image

    scale = tiny.spec.default_settings()["base"].options["clip_guidance"]
    assert scale == module.TINY_CLIP_GUIDANCE > 0
    assert np.array_equal(image(None), image(f"base.clip_guidance={scale}"))
    assert not np.array_equal(image(None), image("base.clip_guidance=0"))

    shipped = zoo_weights("glide-tiny-base")
    recipe = shipped.recipe.model_dump()
    recipe["data"] |= {"dataset": "own", "kinds": {}, "vocabulary": "own"}
    own = tmp_path / "own.safetensors"
    stated = {"recipe": json.dumps(recipe), "vocabulary": tiny_tokenizer().stated or ""}
    export_weights(own, shipped.network(Text2ImUNet, "glide-tiny-base"), stated)
    others = (
        load_generator("glide:tiny-untrained"),
        load_generator("glide:tiny", weights={"glide-tiny-base": own}),
    )
    for other in others:
        assert other.spec.default_settings()["base"].options["clip_guidance"] == 0


def test_a_long_caption_is_cut_and_says_so(tiny: GlideGenerator) -> None:
    settings = resolve_settings(tiny.spec, **QUICK)
    samples = tiny.generate([Request(prompt=p) for p in ("a red circle", "red " * 50)], settings)
    assert [sample.notes for sample in samples] == [(), ("caption truncated",)]


def test_a_request_without_a_prompt_is_refused(tiny: GlideGenerator) -> None:
    with pytest.raises(UnsupportedRequestError, match="prompt"):
        tiny.generate([Request(seed=1)], tiny.spec.default_settings())


def test_the_untrained_twin_is_another_model() -> None:
    untrained = load_generator("glide:tiny-untrained").spec
    assert untrained.training_data == ()
    assert untrained.weights_sha256 == "random"
    assert "untrained" in untrained.display_name


def test_unknown_weights_are_refused() -> None:
    with pytest.raises(ConfigError, match="no weights 'base'; it has: glide-tiny-base"):
        load_generator("glide:tiny", weights={"base": Path("x")})


@pytest.fixture
def released_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """Weights and vocabulary in the released format, of networks that a test can afford."""
    merges = train_merges(["a red circle and a blue square"] * 3, 20)
    ids = vocabulary(merges)
    text = dataclasses.replace(
        RELEASED.base.network.text, n_vocab=len(ids), xf_width=32, xf_layers=1, xf_heads=2
    )  # type: ignore[type-var]
    small = {"model_channels": 32, "num_res_blocks": 1, "num_head_channels": 32}
    stages = {}
    # As many halvings as leave 16 px to the attention of the middle block.
    for name, stage, levels in (("base", RELEASED.base, 3), ("upsampler", RELEASED.upsampler, 5)):
        mult, attention = (1,) * levels, (2 ** (levels - 1),)
        unet = dataclasses.replace(
            stage.network.unet, **small, channel_mult=mult, attention_downsamples=attention
        )
        network = dataclasses.replace(stage.network, unet=unet, text=text)
        stages[name] = dataclasses.replace(stage, network=network)
    monkeypatch.setattr(module, "RELEASED", dataclasses.replace(RELEASED, **stages))
    files = {
        "glide-base": tmp_path / "base.pt",
        "glide-upsampler": tmp_path / "upsample.pt",
        "glide-base-inpaint": tmp_path / "base_inpaint.pt",
        "glide-upsampler-inpaint": tmp_path / "upsample_inpaint.pt",
        "gpt2-encoder": tmp_path / "encoder.json.gz",
        "gpt2-merges": tmp_path / "vocab.bpe.gz",
    }
    networks = {
        "glide-base": Text2ImUNet(stages["base"].network),
        "glide-upsampler": SuperResText2ImUNet(stages["upsampler"].network),
        "glide-base-inpaint": InpaintText2ImUNet(stages["base"].network),
        "glide-upsampler-inpaint": SuperResInpaintText2ImUNet(stages["upsampler"].network),
    }
    for part, network in networks.items():
        torch.save(network.state_dict(), files[part])
    lines = ["#version: 0.2", *(f"{a} {b}" for a, b in merges)]
    files["gpt2-encoder"].write_bytes(gzip.compress(json.dumps(ids).encode()))
    files["gpt2-merges"].write_bytes(gzip.compress("\n".join(lines).encode()))
    return files


def chosen(files: dict[str, Path], *, inpaint: bool = False) -> dict[str, Path]:
    """The files of the networks that inpaint, or of those that don't."""
    return {k: v for k, v in files.items() if "glide" not in k or ("inpaint" in k) == inpaint}


def test_weights_in_the_released_format_sample(released_files: dict[str, Path]) -> None:
    generator = load_generator("glide", weights=chosen(released_files))
    assert generator.spec.name == "glide:released"
    assert generator.spec.training_data == ("openai-filtered",)
    settings = resolve_settings(generator.spec, steps="base=2,upsampler=1")
    sample = generator.generate([Request(prompt="a red circle", seed=0)], settings)[0]
    assert sample.image is not None
    assert sample.image.shape == (256, 256, 3)
    defaults = generator.spec.default_settings()
    assert (defaults["base"].guidance, defaults["base"].steps) == (3.0, 100)
    assert defaults["upsampler"].options["temperature"] == 0.997


def test_weights_of_another_shape_list_the_keys(released_files: dict[str, Path]) -> None:
    state = torch.load(released_files["glide-base"], weights_only=True)
    state["surprise"] = state.pop("out.2.bias")
    torch.save(state, released_files["glide-base"])
    with pytest.raises(WeightsError, match=r"missing: out\.2\.bias.*extra: surprise"):
        load_generator("glide", weights=chosen(released_files))


def test_a_pickle_with_code_is_refused(released_files: dict[str, Path]) -> None:
    torch.save({"run": print, "module": torch.nn.Linear(1, 1)}, released_files["glide-base"])
    with pytest.raises(UnsafeWeightsError, match="refused"):
        load_generator("glide", weights=chosen(released_files))


def test_a_file_that_is_not_there_is_named(released_files: dict[str, Path]) -> None:
    released_files["glide-base"].unlink()
    with pytest.raises(MissingWeightsError, match=r"glide-base=.* is not a file"):
        load_generator("glide", weights=chosen(released_files))


def test_released_inpainting_keeps_what_it_is_given(released_files: dict[str, Path]) -> None:
    files = chosen(released_files, inpaint=True)
    generator = load_generator("glide:released-inpaint", weights=files)
    settings = resolve_settings(generator.spec, steps="base=2,upsampler=2")
    image = np.full((256, 256, 3), 200, np.uint8)
    mask = np.zeros((256, 256), bool)
    mask[:, :100] = True
    asked = Request(prompt="a red circle", seed=0, image=image, mask=mask)
    made = generator.generate([asked, Request(prompt="a red circle")], settings)[0].image
    assert made is not None
    assert np.abs(made[:, :100].astype(int) - 200).max() <= 1
    assert np.abs(made[:, 100:].astype(int) - 200).max() > 20
    for broken, complaint in (
        ({"mask": None}, "an image and a mask"),
        ({"mask": mask[:9]}, "256 x 256 px"),
    ):
        with pytest.raises(UnsupportedRequestError, match=complaint):
            generator.generate([dataclasses.replace(asked, **broken)], settings)


def test_only_inpainting_networks_take_an_image(tiny: GlideGenerator) -> None:
    asked = Request(prompt="a", image=np.zeros((64, 64, 3), np.uint8), mask=np.ones((64, 64), bool))
    with pytest.raises(UnsupportedRequestError, match="glide:released-inpaint does"):
        tiny.generate([asked], resolve_settings(tiny.spec, **QUICK))


def test_the_papers_weights_were_never_released() -> None:
    with pytest.raises(MissingWeightsError, match=r"never released.*--weights glide-paper-base"):
        load_generator("glide:paper")


@pytest.mark.slow  # where the processor has no bfloat16, it is emulated
def test_bfloat16_is_close_and_not_the_same(tiny: GlideGenerator) -> None:
    settings = resolve_settings(tiny.spec, steps="base=1,upsampler=1")
    asked = [Request(prompt="a red circle", seed=5)]
    exact = tiny.generate(asked, settings)[0].image
    quick = load_generator("glide:tiny", bf16=True).generate(asked, settings)[0].image
    assert exact is not None
    assert quick is not None
    assert not np.array_equal(exact, quick)
    assert np.abs(exact.astype(int) - quick).mean() < 8


COMPILED = """
import sys
import numpy as np
from generators.base import Request, resolve_settings
from generators.catalog import load_generator
glide = load_generator("glide:tiny", compiled=True)
settings = resolve_settings(glide.spec, steps="base=2,upsampler=1")
np.save(sys.argv[1], glide.generate([Request(prompt="a red circle", seed=5)], settings)[0].image)
"""


@pytest.mark.slow  # compiling takes minutes
def test_compiled_networks_make_the_same_images(tiny: GlideGenerator, tmp_path: Path) -> None:
    settings = resolve_settings(tiny.spec, steps="base=2,upsampler=1")
    exact = tiny.generate([Request(prompt="a red circle", seed=5)], settings)[0].image
    assert exact is not None
    # In a process of its own: what checks the types in tests can't be compiled.
    subprocess.run([sys.executable, "-c", COMPILED, str(tmp_path / "image.npy")], check=True)
    compiled = np.load(tmp_path / "image.npy")
    assert np.abs(exact.astype(int) - compiled).max() <= 2
