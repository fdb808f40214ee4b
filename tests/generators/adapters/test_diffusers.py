"""Karlo and DeepFloyd IF through diffusers, on tiny random pipelines in the real format."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    CLIPTextConfig,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    PreTrainedTokenizerFast,
    T5Config,
)
from transformers.models.t5.modeling_t5 import T5EncoderModel

from evalkit.core.errors import ConfigError, MissingWeightsError, WeightsError
from generators.base import Generator, Request, resolve_settings
from generators.catalog import load_generator
from generators.errors import UnsupportedRequestError

diffusers = pytest.importorskip("diffusers")

ASKED = [Request(prompt="a red circle", seed=1), Request(prompt="a blue square", seed=2)]


@pytest.fixture(scope="module")
def karlo_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from diffusers.pipelines.deprecated.unclip.text_proj import UnCLIPTextProjModel

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("karlo")
    letters = sorted({*"abcdefghijklmnopqrstuvwxyz"})
    words = [*letters, *(f"{c}</w>" for c in letters), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({w: i for i, w in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = CLIPTokenizer.from_pretrained(folder, model_max_length=77)
    text = CLIPTextConfig(
        vocab_size=len(words), hidden_size=32, projection_dim=32, intermediate_size=37,
        num_attention_heads=4, num_hidden_layers=1, max_position_embeddings=77,
        bos_token_id=len(words) - 2, eos_token_id=len(words) - 1,
    )  # fmt: skip
    up = {
        "sample_size": 32, "in_channels": 6, "out_channels": 3, "layers_per_block": 1,
        "block_out_channels": (32, 32),
        "down_block_types": ("ResnetDownsampleBlock2D",) * 2,
        "up_block_types": ("ResnetUpsampleBlock2D",) * 2,
    }  # fmt: skip
    prior = diffusers.PriorTransformer(
        num_attention_heads=2, attention_head_dim=12, embedding_dim=32, num_layers=1
    )
    torch.nn.init.ones_(prior.clip_std)  # a new one is zero, and so would all embeddings be
    diffusers.UnCLIPPipeline(
        prior=prior,
        decoder=diffusers.UNet2DConditionModel(
            sample_size=16, in_channels=3, out_channels=6, layers_per_block=1,
            block_out_channels=(32, 32),
            down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
            up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
            mid_block_type="UNetMidBlock2DSimpleCrossAttn", cross_attention_dim=40,
            attention_head_dim=8, resnet_time_scale_shift="scale_shift",
            class_embed_type="identity",
        ),
        text_encoder=CLIPTextModelWithProjection(text),
        tokenizer=tokenizer,
        text_proj=UnCLIPTextProjModel(
            clip_embeddings_dim=32, time_embed_dim=128, cross_attention_dim=40
        ),
        super_res_first=diffusers.UNet2DModel(**up),
        super_res_last=diffusers.UNet2DModel(**up),
        prior_scheduler=diffusers.UnCLIPScheduler(
            variance_type="fixed_small_log", prediction_type="sample", clip_sample_range=5.0
        ),
        decoder_scheduler=diffusers.UnCLIPScheduler(variance_type="learned_range"),
        super_res_scheduler=diffusers.UnCLIPScheduler(variance_type="fixed_small_log"),
    ).save_pretrained(folder)  # fmt: skip
    index = json.loads((folder / "model_index.json").read_text())
    index["text_proj"] = ["unclip", "UnCLIPTextProjModel"]  # as the published repository has it
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


@pytest.fixture(scope="module")
def if_folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    torch.manual_seed(0)
    words = ["<pad>", "</s>", "<unk>", "a", "red", "circle", "blue", "square"]
    fast = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
    fast.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=fast, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )
    encoder = T5EncoderModel(
        T5Config(vocab_size=len(words), d_model=32, d_kv=8, d_ff=37, num_layers=1, num_heads=2)
    )

    def unet(**changes):
        return diffusers.UNet2DConditionModel(
            **{
                "sample_size": 16, "layers_per_block": 1, "block_out_channels": (32, 32),
                "down_block_types": ("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
                "up_block_types": ("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
                "mid_block_type": "UNetMidBlock2DSimpleCrossAttn", "in_channels": 3,
                "out_channels": 6, "cross_attention_dim": 32, "encoder_hid_dim": 32,
                "attention_head_dim": 8, "addition_embed_type": "text",
                "addition_embed_type_num_heads": 2, "cross_attention_norm": "group_norm",
                "resnet_time_scale_shift": "scale_shift", "act_fn": "gelu",
            }
            | changes
        )  # fmt: skip

    scheduler = diffusers.DDPMScheduler(
        beta_schedule="squaredcos_cap_v2", thresholding=True, dynamic_thresholding_ratio=0.95,
        sample_max_value=1.0, prediction_type="epsilon", variance_type="learned_range",
    )  # fmt: skip
    none = {
        "safety_checker": None, "feature_extractor": None, "watermarker": None,
        "requires_safety_checker": False, "tokenizer": tokenizer, "text_encoder": encoder,
        "scheduler": scheduler,
    }  # fmt: skip
    folders = {part: tmp_path_factory.mktemp(part) for part in ("if-base", "if-sr1")}
    diffusers.IFPipeline(unet=unet(), **none).save_pretrained(folders["if-base"])
    diffusers.IFSuperResolutionPipeline(
        unet=unet(sample_size=32, in_channels=6, class_embed_type="timestep"),
        image_noising_scheduler=scheduler,
        **none,
    ).save_pretrained(folders["if-sr1"])
    return folders


@pytest.fixture(scope="module")
def karlo(karlo_folder: Path) -> Generator:
    return load_generator("unclip:karlo", weights={"karlo": karlo_folder})


@pytest.fixture(scope="module")
def deepfloyd(if_folders: dict[str, Path]) -> Generator:
    return load_generator("imagen:if-xl", weights=if_folders)


def images(generator: Generator, requests=ASKED, **typed: str) -> list[np.ndarray]:
    quick = "base=2,sr1=2" if generator.spec.name.startswith("imagen") else "prior=2,base=2,sr1=2"
    settings = resolve_settings(generator.spec, **{"steps": quick, **typed})
    made = [sample.image for sample in generator.generate(requests, settings)]
    assert all(image is not None for image in made)
    return made  # type: ignore[return-value]


@pytest.mark.parametrize("name", ["karlo", "deepfloyd"])
def test_an_image_depends_on_its_seed_and_prompt_alone(
    name: str, request: pytest.FixtureRequest
) -> None:
    generator = request.getfixturevalue(name)
    both, alone = images(generator), images(generator, ASKED[1:])
    assert both[0].shape == (generator.spec.size_px,) * 2 + (3,)
    assert both[0].dtype == np.uint8
    assert np.abs(both[1].astype(int) - alone[0]).max() <= 1
    other = images(generator, [Request(prompt="a blue square", seed=9)])
    assert not np.array_equal(other[0], alone[0])


@pytest.mark.parametrize(
    ("name", "typed"),
    [
        ("karlo", {"guidance": "prior=30"}),
        ("karlo", {"guidance": "base=2"}),
        ("karlo", {"steps": "prior=3,base=2,sr1=2"}),
        ("karlo", {"steps": "prior=2,base=2,sr1=3"}),
        ("deepfloyd", {"guidance": "1"}),
        ("deepfloyd", {"guidance": "sr1=9"}),
        ("deepfloyd", {"steps": "base=3,sr1=2"}),
        ("deepfloyd", {"options": "aug_level=0.9"}),
    ],
)
def test_every_setting_matters(
    name: str, typed: dict[str, str], request: pytest.FixtureRequest
) -> None:
    generator = request.getfixturevalue(name)
    assert not np.array_equal(images(generator), images(generator, **typed))


def test_specs_name_who_made_them(karlo: Generator, deepfloyd: Generator) -> None:
    assert karlo.spec.display_name == "Karlo (unCLIP-style)"
    assert deepfloyd.spec.display_name == "DeepFloyd IF (Imagen-style)"
    settings = karlo.spec.default_settings()
    assert [(s.steps, s.guidance) for s in settings.values()] == [(25, 4.0), (25, 8.0), (7, None)]
    assert len(karlo.spec.weights_sha256) == 64


def test_what_they_can_not_do_is_said(karlo: Generator, deepfloyd: Generator) -> None:
    with pytest.raises(ConfigError, match=r"guidance for base must be 1 to 100, got 0\.5"):
        resolve_settings(deepfloyd.spec, guidance="0.5")
    with pytest.raises(ConfigError, match="no sampler; it has: guidance, steps"):
        resolve_settings(karlo.spec, sampler="ddim")
    with pytest.raises(UnsupportedRequestError, match="prompt"):
        karlo.generate([Request(seed=1)], karlo.spec.default_settings())


def test_a_flagged_image_is_filtered_and_not_scored(
    deepfloyd, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flag_first(image, device, dtype):
        return image, [True, False], None

    monkeypatch.setattr(deepfloyd.upsampler, "run_safety_checker", flag_first)
    settings = resolve_settings(deepfloyd.spec, steps="base=1,sr1=1")
    first, second = deepfloyd.generate(ASKED, settings)
    assert (first.image, first.status) == (None, "filtered")
    assert second.status == "ok"


def test_a_long_caption_is_cut_and_says_so(deepfloyd: Generator) -> None:
    settings = resolve_settings(deepfloyd.spec, steps="base=1,sr1=1")
    sample = deepfloyd.generate([Request(prompt="red " * 90)], settings)[0]
    assert sample.notes == ("caption truncated",)


def test_what_is_not_there_is_an_error_of_one_line(tmp_path: Path) -> None:
    with pytest.raises(
        MissingWeightsError, match=r"karlo-v1-alpha not found.*--weights karlo=FOLDER"
    ):
        load_generator("unclip")
    with pytest.raises(MissingWeightsError, match=r"if-base=.* is not a folder"):
        load_generator("imagen", weights={"if-base": tmp_path / "nowhere"})
    with pytest.raises(WeightsError, match="holds no PriorTransformer") as caught:
        load_generator("unclip:karlo", weights={"karlo": tmp_path})
    assert "\n" not in str(caught.value)
