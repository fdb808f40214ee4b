"""CLIP extractors: open_clip's preprocessing and a tiny network of it, names, offline errors."""

from __future__ import annotations

import json
import time
import warnings
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image

from evalkit.core.downloads import sha256_of
from evalkit.core.errors import ConfigError, MissingWeightsError, UnknownNameError, WeightsError
from evalkit.features import clip
from evalkit.features.base import CountsCutCaptions
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


class TestActivationOfFiles:
    """A file doesn't say its activation: known hashes and tags decide it, else it is said."""

    @pytest.fixture
    def twins(self, tmp_path: Path) -> Path:
        """Weights of a tiny network that open_clip has with both activations."""
        for name, more in (("tiny-twin", {}), ("tiny-twin-quickgelu", {"quick_gelu": True})):
            (tmp_path / f"{name}.json").write_text(json.dumps({**TINY, **more}))
            open_clip.add_model_config(tmp_path / f"{name}.json")
        torch.manual_seed(0)
        path = tmp_path / "some.pt"
        torch.save(open_clip.create_model("tiny-twin").state_dict(), path)
        return path

    def test_of_an_unknown_file_it_is_said_and_in_the_identity(
        self, twins: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        plain = OpenClipExtractor.from_name(f"tiny-twin:{twins}")
        assert f"give tiny-twin-quickgelu:{twins}" in capsys.readouterr().err
        quick = OpenClipExtractor.from_name(f"tiny-twin-quickgelu:{twins}")
        assert "runs with quickgelu" in capsys.readouterr().err
        assert (plain.identity["activation"], quick.identity["activation"]) == ("gelu", "quickgelu")
        assert not np.allclose(plain.encode_text(["a cat"]), quick.encode_text(["a cat"]))

    def test_a_model_with_one_activation_says_nothing(
        self, tiny: OpenClipExtractor, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert "activation" not in tiny.identity
        assert capsys.readouterr().err == ""

    @pytest.mark.parametrize("name", ["tiny-twin", "tiny-twin-quickgelu"])
    def test_a_file_of_openai_gets_quickgelu_whatever_its_name_says(
        self,
        name: str,
        twins: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        """OpenAI publishes TorchScript, which is opened only where the hash is known."""
        quick = OpenClipExtractor.from_name(f"tiny-twin-quickgelu:{twins}")
        capsys.readouterr()
        script = _as_torchscript(twins, twins.with_name("ViT-T.pt"))
        with pytest.raises(WeightsError, match="not weights of"):
            OpenClipExtractor.from_name(f"{name}:{script}")
        monkeypatch.setattr(clip, "openai_hashes", lambda: {sha256_of(script)})
        capsys.readouterr()
        found = OpenClipExtractor.from_name(f"{name}:{script}")
        assert capsys.readouterr().err == ""
        assert found.identity["activation"] == "quickgelu (OpenAI's file)"
        np.testing.assert_array_equal(found.encode_text(["a cat"]), quick.encode_text(["a cat"]))

    def test_a_file_named_after_a_tag_gets_the_activation_of_the_tag(self) -> None:
        for model in ("ViT-B-32", "ViT-B-32-quickgelu"):
            found = clip.activation_of_file(model, Path("openai.pt"), "0" * 64)
            assert found == ("ViT-B-32", True, "quickgelu (open_clip's tag openai)")
        found = clip.activation_of_file("ViT-B-32", Path("laion2b_e16.bin"), "0" * 64)
        assert found == ("ViT-B-32", False, "gelu (open_clip's tag laion2b_e16)")

    def test_the_hashes_of_openai_are_those_of_its_repository(self) -> None:
        """Three of the values in github.com/openai/CLIP, clip/clip.py."""
        assert {
            "40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af",
            "5806e77cd80f8b59890b7e101eabd078d9fb84e6937f9e85e4ecb61988df416f",
            "b8cca3fd41ae0c99ba7e8951adf17d267cdb84cd88be6f7c2e0eca1737a03836",
        } <= clip.openai_hashes()


def _as_torchscript(weights: Path, out: Path) -> Path:
    """Write a state dict as OpenAI publishes its own: as a TorchScript archive with extras."""

    class Holder(torch.nn.Module):
        def forward(self) -> int:
            return 0

    holder = Holder()
    for key, value in torch.load(weights, weights_only=True).items():
        *path, last = key.split(".")
        module = holder
        for part in path:
            if part not in dict(module.named_children()):
                module.add_module(part, torch.nn.Module())
            module = module.get_submodule(part)
        module.register_buffer(last, value)
    holder.register_buffer("context_length", torch.tensor(77))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated
        torch.jit.script(holder).save(str(out))
    return out


def test_captions_beyond_the_context_are_counted(tiny: OpenClipExtractor) -> None:
    """76 words with both ends make 78 tokens; 75 make 77, which is the context."""
    texts = ["a " * 75, "a " * 76, "a", "a " * 500]
    assert tiny.num_cut(texts) == 2
    judge = load_clip("shapes-clip")
    assert isinstance(judge, CountsCutCaptions)
    assert judge.num_cut(["a red circle", "a red circle " * 90]) == 1
