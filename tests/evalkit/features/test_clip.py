"""CLIP extractors: open_clip's preprocessing and a tiny network of it, names, offline errors."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image

from evalkit.core.errors import ConfigError, MissingWeightsError, UnknownNameError, WeightsError
from evalkit.features.clip import OpenClipExtractor, load_clip
from evalkit.features.clip_preprocessing import ClipPreprocessing
from evalkit.features.dinov2 import Dinov2Extractor, load_dinov2
from evalkit.features.hub_weights import OPENAI_NAMES, OPENAI_REPOSITORIES

TINY = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "patch_size": 16, "head_width": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}


@pytest.fixture(scope="module")
def tiny_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clip")
    (folder / "tiny-test-clip.json").write_text(json.dumps(TINY))
    open_clip.add_model_config(folder / "tiny-test-clip.json")
    torch.manual_seed(0)
    path = folder / "tiny.pt"
    torch.save(open_clip.create_model("tiny-test-clip").state_dict(), path)
    return path


@pytest.fixture(scope="module")
def tiny(tiny_weights: Path) -> OpenClipExtractor:
    return OpenClipExtractor.from_name(f"tiny-test-clip:{tiny_weights}")


@pytest.mark.parametrize("mode", ["shortest", "squash"])
def test_preprocessing_equals_open_clip(photographs: list[np.ndarray], mode: str) -> None:
    theirs = open_clip.image_transform(
        224, is_train=False, resize_mode=mode, interpolation="bicubic"
    )
    ours = ClipPreprocessing(size_px=224, resize_mode=mode)
    for image in photographs[:8]:
        expected = theirs(Image.fromarray(image)).permute(1, 2, 0).numpy()
        np.testing.assert_allclose(ours(image), expected, atol=1e-6)


def test_embeddings_equal_open_clip(
    tiny: OpenClipExtractor, tiny_weights: Path, photographs: list[np.ndarray]
) -> None:
    model, _, transform = open_clip.create_model_and_transforms(
        "tiny-test-clip", pretrained=str(tiny_weights)
    )
    model.eval()
    with torch.no_grad():
        batch = torch.stack([transform(Image.fromarray(image)) for image in photographs[:3]])
        images = model.encode_image(batch)
        texts = model.encode_text(open_clip.get_tokenizer("tiny-test-clip")(["a cat", "two dogs"]))
    np.testing.assert_allclose(tiny.extract(photographs[:3]), images.numpy(), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(
        tiny.encode_text(["a cat", "two dogs"]), texts.numpy(), rtol=1e-4, atol=1e-6
    )


def test_names_and_identity(tiny: OpenClipExtractor) -> None:
    assert tiny.name == "clip:tiny-test-clip:tiny.pt"
    assert tiny.metric_label == "FD (clip:tiny-test-clip:tiny.pt)"
    assert tiny.identity["resize"] == "shortest bicubic 32"
    assert tiny.dim == 16


class TestErrors:
    def test_unknown_model_offers_the_nearest(self) -> None:
        with pytest.raises(UnknownNameError, match=r"'ViT-B-33'; did you mean 'ViT-B-32'"):
            load_clip("ViT-B-33:openai")

    def test_unknown_tag_lists_the_tags(self) -> None:
        with pytest.raises(UnknownNameError, match="openai"):
            load_clip("ViT-B-32:opnai")

    def test_missing_file(self) -> None:
        with pytest.raises(MissingWeightsError, match=r"/nowhere/x\.pt does not exist"):
            load_clip("ViT-B-32:/nowhere/x.pt")

    def test_weights_of_another_network(self, tmp_path: Path, tiny: OpenClipExtractor) -> None:
        path = tmp_path / "other.pt"
        torch.save({"a": torch.zeros(2)}, path)
        with pytest.raises(WeightsError, match="not weights of") as caught:
            load_clip(f"tiny-test-clip:{path}")
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize("loader", [lambda: load_clip("ViT-B/32"), load_dinov2])
    def test_offline_is_said_at_once(self, loader: object, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        started = time.monotonic()
        with pytest.raises(
            MissingWeightsError, match="not cached, and the download failed"
        ) as caught:
            loader()  # type: ignore[operator]
        assert time.monotonic() - started < 5
        assert "\n" not in str(caught.value)

    def test_the_papers_names_are_where_open_clip_has_them(self) -> None:
        for name, repository in OPENAI_REPOSITORIES.items():
            config = open_clip.get_pretrained_cfg(*OPENAI_NAMES[name].split(":"))
            assert config["hf_hub"].rstrip("/") == repository
        assert OPENAI_REPOSITORIES.keys() == OPENAI_NAMES.keys()

    def test_unknown_precision(self) -> None:
        with pytest.raises(ConfigError, match="precision 'fp4'"):
            load_clip("ViT-B/32", precision="fp4")


def test_dinov2_takes_the_class_token(photographs: list[np.ndarray]) -> None:
    from transformers import Dinov2Config, Dinov2Model

    torch.manual_seed(0)
    config = Dinov2Config(
        hidden_size=24, num_hidden_layers=1, num_attention_heads=2, image_size=224, patch_size=56
    )
    model = Dinov2Model(config).eval()
    extractor = Dinov2Extractor(model, weights_sha256="0" * 64)
    image = Image.fromarray(photographs[0]).resize((224, 224), Image.Resampling.BICUBIC)
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float() / 255
    mean = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    with torch.no_grad():
        expected = model(pixel_values=(pixels - mean) / std).pooler_output.numpy()
    np.testing.assert_allclose(extractor.extract(photographs[:1]), expected, atol=1e-5)
    assert extractor.metric_label == "FD (dinov2)"
