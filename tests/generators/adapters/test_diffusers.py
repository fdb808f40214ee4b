"""Pipelines of diffusers on tiny random weights in the real format."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from evalkit.core.errors import ConfigError, MissingWeightsError, WeightsError
from generators.base import Generator, Request, Sample, resolve_settings
from generators.catalog import full_name, load_generator
from generators.diffusion.noise import image_rngs
from generators.errors import UnsupportedRequestError

diffusers = pytest.importorskip("diffusers")

# Schedulers of diffusers convert tensors in a way that NumPy 2 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

Pipelines = Callable[[str], Path]
PROMPTS = ("a red circle", "a blue square", "a circle", "a red square")
ASKED = [Request(prompt=prompt, label=n, seed=n + 1) for n, prompt in enumerate(PROMPTS)]
ONE_LEVEL = 1
"""Of 255: what another batch size may change by rounding."""
KINDS = ("sd", "sdxl", "sd3", "flux", "pixart", "unclip", "if+if-sr", "ddpm", "dit")
BY_HAND = {
    "sd": {"num_inference_steps": 2},
    "sdxl": {"num_inference_steps": 2},
    "sd3": {"num_inference_steps": 2},
    "flux": {"num_inference_steps": 2, "height": 16, "width": 16},
    "pixart": {
        "num_inference_steps": 2, "use_resolution_binning": False, "clean_caption": False,
    },
    "unclip": {
        "prior_num_inference_steps": 2, "decoder_num_inference_steps": 2,
        "super_res_num_inference_steps": 2,
    },
    "ddpm": {"num_inference_steps": 2},
    "dit": {"num_inference_steps": 2},
}  # fmt: skip
"""Arguments of a call by hand."""
OPTIONS = {"flux": "height=16,width=16", "pixart": "use_resolution_binning=false"}
"""The same as settings, but for the steps."""


def reference(pipelines: Pipelines, kind: str) -> str:
    return "diffusers:" + "+".join(str(pipelines(part)) for part in kind.split("+"))


@pytest.fixture(scope="module")
def loaded(pipelines: Pipelines) -> Callable[[str], Generator]:
    found: dict[str, Generator] = {}

    def get(kind: str) -> Generator:
        if kind not in found:
            found[kind] = load_generator(reference(pipelines, kind))
        return found[kind]

    return get


def samples(
    generator: Generator, kind: str, requests: list[Request] = ASKED, **typed: Any
) -> list[Sample]:
    steps = ",".join(f"{stage.name}=2" for stage in generator.spec.stages)
    options = [text for text in (OPTIONS.get(kind), typed.pop("options", None)) if text]
    settings = resolve_settings(generator.spec, **{"steps": steps, **typed}, options=options)
    return generator.generate(requests, settings)


def images(
    generator: Generator, kind: str, requests: list[Request] = ASKED, **typed: Any
) -> np.ndarray:
    made = samples(generator, kind, requests, **typed)
    assert [sample.status for sample in made] == ["ok"] * len(made)
    return np.stack([sample.image for sample in made])


def by_hand(folder: Path, kind: str) -> np.ndarray:
    """What a user of diffusers gets from the same prompts and seeds in one batch."""
    if kind == "unclip":  # its index names a module that diffusers has moved
        pytest.skip("covered by the parts: diffusers itself refuses the published index")
    pipeline = diffusers.DiffusionPipeline.from_pretrained(folder, torch_dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    what: dict[str, Any] = {"prompt": list(PROMPTS)}
    if kind == "ddpm":
        what = {"batch_size": len(PROMPTS)}
    if kind == "dit":
        what = {"class_labels": [request.label for request in ASKED]}
    rngs = image_rngs([request.seed for request in ASKED])
    made = pipeline(**what, **BY_HAND[kind], generator=rngs)
    return np.stack([np.asarray(image) for image in made.images])


@pytest.mark.parametrize("kind", [kind for kind in KINDS if "+" not in kind and kind != "unclip"])
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_images_equal_those_of_a_call_by_hand(
    kind: str, pipelines: Pipelines, loaded: Callable[[str], Generator]
) -> None:
    np.testing.assert_array_equal(images(loaded(kind), kind), by_hand(pipelines(kind), kind))


def test_a_cascade_equals_its_pipelines_called_by_hand(
    pipelines: Pipelines, loaded: Callable[[str], Generator]
) -> None:
    base = diffusers.IFPipeline.from_pretrained(pipelines("if"))
    upsampler = diffusers.IFSuperResolutionPipeline.from_pretrained(pipelines("if-sr"))
    upsampler.text_encoder = base.text_encoder
    seeds = [request.seed for request in ASKED]
    small = base(
        list(PROMPTS), num_inference_steps=2, generator=image_rngs(seeds, "base"),
        output_type="pt", clean_caption=False,
    ).images  # fmt: skip
    large = upsampler(
        list(PROMPTS), image=small, num_inference_steps=2, generator=image_rngs(seeds, "sr1"),
        clean_caption=False,
    ).images  # fmt: skip
    kind = "if+if-sr"
    found = images(loaded(kind), kind)
    assert found.shape == (4, 32, 32, 3)
    np.testing.assert_array_equal(found, np.stack([np.asarray(image) for image in large]))


def test_an_unclip_equals_its_pipeline_called_by_hand(
    loaded: Callable[[str], Generator],
) -> None:
    generator: Any = loaded("unclip")
    found = images(generator, "unclip")
    rngs = image_rngs([request.seed for request in ASKED])
    made = generator.members[0].loaded(list(PROMPTS), **BY_HAND["unclip"], generator=rngs)
    np.testing.assert_array_equal(found, np.stack([np.asarray(image) for image in made.images]))


@pytest.mark.parametrize("kind", KINDS)
def test_an_image_depends_on_its_seed_and_request_alone(
    kind: str, loaded: Callable[[str], Generator]
) -> None:
    generator = loaded(kind)
    four = images(generator, kind)
    alone = np.concatenate([images(generator, kind, [request]) for request in ASKED])
    assert np.abs(four.astype(int) - alone).max() <= ONE_LEVEL
    other = images(generator, kind, [Request(prompt=PROMPTS[0], label=0, seed=9)])
    assert not np.array_equal(other[0], four[0])


@pytest.mark.parametrize(
    ("kind", "typed"),
    [
        ("sd", {"guidance": "3"}),
        ("sd", {"steps": "3"}),
        ("sd", {"sampler": "EulerAncestralDiscreteScheduler"}),
        ("sd", {"options": "height=48,width=16"}),
        ("sd", {"options": "negative_prompt=blue, square, dark"}),
        ("sd", {"options": "guidance_rescale=0.9"}),
        ("sd", {"options": "dtype=bfloat16"}),
        ("flux", {"options": "true_cfg_scale=3,negative_prompt=a red square"}),
        ("ddpm", {"sampler": "DDIMScheduler"}),
        ("dit", {"guidance": "1"}),
        ("unclip", {"guidance": "prior=30"}),
        ("unclip", {"steps": "prior=3,base=2,sr1=2"}),
        ("if+if-sr", {"guidance": "1"}),
        ("if+if-sr", {"guidance": "sr1=9"}),
        ("if+if-sr", {"options": "sr1.noise_level=900"}),
    ],
)
def test_every_setting_matters(
    kind: str, typed: dict[str, str], loaded: Callable[[str], Generator]
) -> None:
    generator = loaded(kind)
    plain, changed = images(generator, kind), images(generator, kind, **typed)
    assert plain.shape != changed.shape or not np.array_equal(plain, changed)
    # The next call has the plain settings again.
    np.testing.assert_array_equal(images(generator, kind), plain)


def test_vae_slicing_changes_memory_and_no_image(loaded: Callable[[str], Generator]) -> None:
    generator: Any = loaded("sd")
    sliced = images(generator, "sd", options="vae_slicing=true,vae_tiling=true")
    assert generator.members[0].loaded.vae.use_slicing
    assert generator.members[0].loaded.vae.use_tiling
    difference = np.abs(sliced.astype(int) - images(generator, "sd")).max()
    assert difference <= ONE_LEVEL
    assert not generator.members[0].loaded.vae.use_slicing


def test_stochastic_samplers_are_seeded_per_image(loaded: Callable[[str], Generator]) -> None:
    typed = {"sampler": "EulerAncestralDiscreteScheduler"}
    both = images(loaded("sd"), "sd", **typed)
    alone = images(loaded("sd"), "sd", ASKED[1:2], **typed)
    assert np.abs(both[1].astype(int) - alone[0]).max() <= ONE_LEVEL
    assert "DPMSolverSDEScheduler" not in loaded("sd").spec.stages[0].samplers  # draws unseeded


def test_what_a_safety_checker_blanks_is_filtered(
    loaded: Callable[[str], Generator], monkeypatch: pytest.MonkeyPatch
) -> None:
    generator: Any = loaded("sd")
    samples(generator, "sd")

    def blank_first(image: Any, device: Any, dtype: Any) -> tuple[Any, list[bool]]:
        image[0] = 0
        return image, [True] + [False] * (len(image) - 1)

    monkeypatch.setattr(generator.members[0].loaded, "run_safety_checker", blank_first)
    first, second, *_ = samples(generator, "sd")
    assert (first.image, first.status) == (None, "filtered")
    assert first.reason == "flagged by its safety checker"
    assert second.status == "ok"


def test_an_image_that_is_not_finite_failed(pipelines: Pipelines, tmp_path: Path) -> None:
    broken = shutil.copytree(pipelines("sd"), tmp_path / "broken")
    file = broken / "vae" / "diffusion_pytorch_model.safetensors"
    weights = load_file(file)
    weights["decoder.conv_out.bias"][:] = float("nan")
    save_file(weights, file, {"format": "pt"})
    made = samples(load_generator(f"diffusers:{broken}"), "sd")
    assert [(sample.image, sample.status) for sample in made] == [(None, "failed")] * 4
    assert "not finite (NaN)" in made[0].reason


def test_truncated_captions_are_noted(loaded: Callable[[str], Generator]) -> None:
    long = [Request(prompt="red " * 90, seed=1)]
    assert samples(loaded("sd"), "sd", long)[0].notes == ("caption truncated",)
    # Of its three encoders, T5 reads 256 tokens.
    note = "caption truncated for tokenizer, tokenizer_2 only"
    assert samples(loaded("sd3"), "sd3", long)[0].notes == (note,)
    short = samples(loaded("sd3"), "sd3", long, options="max_sequence_length=77")
    assert short[0].notes == ("caption truncated",)
    assert samples(loaded("if+if-sr"), "if+if-sr", long)[0].notes == ("caption truncated",)
    assert samples(loaded("sd"), "sd")[0].notes == ()


def test_specs_are_read_from_the_pipeline(
    pipelines: Pipelines, loaded: Callable[[str], Generator]
) -> None:
    spec = loaded("sd").spec
    assert (spec.name, spec.conditioning, spec.size_px) == (reference(pipelines, "sd"), "text", 32)
    assert (spec.display_name, spec.weights) == ("sd", "folder sd")
    assert loaded("ddpm").spec.conditioning == "none"
    assert (loaded("dit").spec.conditioning, loaded("dit").spec.num_classes) == ("class", 1000)
    stages = {stage.name: stage.defaults for stage in loaded("if+if-sr").spec.stages}
    assert [(n, s.steps, s.guidance) for n, s in stages.items()] == [
        ("base", 100, 7.0),
        ("sr1", 50, 4.0),
    ]
    assert stages["sr1"].options["noise_level"] == 250


def test_the_fingerprint_covers_weights_and_configuration(
    pipelines: Pipelines, tmp_path: Path
) -> None:
    copy = shutil.copytree(pipelines("sd"), tmp_path / "sd")
    before = load_generator(f"diffusers:{copy}").spec.weights_sha256
    file = copy / "scheduler" / "scheduler_config.json"
    file.write_text(file.read_text().replace("epsilon", "v_prediction"))
    assert load_generator(f"diffusers:{copy}").spec.weights_sha256 != before


def test_presets_are_pipelines_with_a_row(pipelines: Pipelines) -> None:
    karlo = load_generator("karlo", weights={"karlo": pipelines("unclip")})
    assert karlo.spec.name == "unclip:karlo"
    assert karlo.spec.display_name == "Karlo (unCLIP-style)"
    settings = karlo.spec.default_settings()
    found = [(stage.steps, stage.guidance) for stage in settings.values()]
    assert found == [(25, 4.0), (25, 8.0), (7, None)]
    parts = {"if-base": pipelines("if"), "if-sr1": pipelines("if-sr")}
    assert (
        load_generator("imagen", weights=parts).spec.display_name == "DeepFloyd IF (Imagen-style)"
    )
    flux = load_generator("flux", weights={"flux": pipelines("flux")})
    assert flux.spec.default_settings()["base"].options["dtype"] == "bfloat16"
    names = {"sd15": "diffusers:sd15", "sdxl": "diffusers:sdxl", "if-m": "imagen:if-m"}
    assert {name: full_name(name) for name in names} == names


def test_what_they_can_not_do_is_said(
    pipelines: Pipelines, loaded: Callable[[str], Generator]
) -> None:
    with pytest.raises(ConfigError, match=r"guidance for base must be 1 to 100, got 0\.5"):
        resolve_settings(loaded("if+if-sr").spec, guidance="0.5")
    with pytest.raises(ConfigError, match=r"no sampler; it has: guidance, steps"):
        resolve_settings(loaded("unclip").spec, sampler="ddim")
    with pytest.raises(ConfigError, match=r"no sampler 'ddim' .* EulerDiscreteScheduler"):
        resolve_settings(loaded("sd").spec, sampler="ddim")
    with pytest.raises(UnsupportedRequestError, match="prompt"):
        loaded("sd").generate([Request(seed=1)], loaded("sd").spec.default_settings())
    with pytest.raises(UnsupportedRequestError, match="label"):
        loaded("dit").generate([Request(seed=1)], loaded("dit").spec.default_settings())
    with pytest.raises(ConfigError, match=r"height=33 gave images of 32 px\. Use a size"):
        samples(loaded("sd"), "sd", options="height=33")
    with pytest.raises(ConfigError, match=r"refused the call \(.*greater than 512"):
        samples(loaded("flux"), "flux", options="max_sequence_length=9999")
    with pytest.raises(ConfigError, match=r"offload=model .* the device is the CPU"):
        samples(load_generator(reference(pipelines, "ddpm")), "ddpm", options="offload=model")
    with pytest.raises(ConfigError, match="has no weights 'unet'; it is named by its place"):
        load_generator(reference(pipelines, "sd"), weights={"unet": pipelines("sd")})


@pytest.mark.parametrize(
    ("place", "error", "message"),
    [
        ("upscaler", ConfigError, "StableDiffusionUpscalePipeline, which needs more than a prompt"),
        ("sd+ddpm", ConfigError, "DDPMPipeline, which can't follow another pipeline"),
        ("if-sr", ConfigError, "IFSuperResolutionPipeline, which needs more than a prompt"),
    ],
)
def test_pipelines_that_make_no_image_from_a_prompt_are_refused(
    place: str, error: type[Exception], message: str, pipelines: Pipelines
) -> None:
    with pytest.raises(error, match=message) as caught:
        load_generator(reference(pipelines, place))
    assert "\n" not in str(caught.value)


def test_what_is_not_there_is_an_error_of_one_line(pipelines: Pipelines, tmp_path: Path) -> None:
    with pytest.raises(
        MissingWeightsError, match=r"karlo-v1-alpha not found.*--weights karlo=FOLDER"
    ):
        load_generator("unclip")
    with pytest.raises(MissingWeightsError, match=r"if-base=.* is not a folder"):
        load_generator("imagen", weights={"if-base": tmp_path / "nowhere"})
    with pytest.raises(WeightsError, match=r"holds no model_index\.json"):
        load_generator(f"diffusers:{tmp_path}")
    with pytest.raises(ConfigError, match="no such folder, and not the name of a repository"):
        load_generator("diffusers:./nowhere")
    with pytest.raises(MissingWeightsError, match=r"nobody/nothing@v1 not found in the cache"):
        load_generator("diffusers:nobody/nothing@v1")
    index = {"_class_name": ["pipeline", "Mine"], "unet": ["diffusers", "UNet2DModel"]}
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(WeightsError, match="code of their own are not run"):
        load_generator(f"diffusers:{tmp_path}")
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": "NoSuchPipeline"}))
    with pytest.raises(ConfigError, match=r"NoSuchPipeline, which diffusers [0-9.]+ does not have"):
        load_generator(f"diffusers:{tmp_path}")


def test_damaged_weights_are_an_error_of_one_line(pipelines: Pipelines, tmp_path: Path) -> None:
    broken = shutil.copytree(pipelines("ddpm"), tmp_path / "broken")
    (broken / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(b"nothing")
    generator = load_generator(f"diffusers:{broken}")
    with pytest.raises(WeightsError, match="can't be loaded as a DDPMPipeline") as caught:
        samples(generator, "ddpm")
    assert "\n" not in str(caught.value)
