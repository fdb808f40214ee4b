"""Inception against torch-fidelity, pytorch-fid and torchmetrics on the same weights."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

from evalkit.core.errors import ConfigError, DataError, MissingWeightsError, WeightsError
from evalkit.features.inception import LAYER_DIMS, InceptionExtractor
from evalkit.features.inception_weights import find_inception_weights

# Folding batch-norms and another memory layout reorder float32 sums.
FEATURES = 1e-5
THEIR_LAYERS = ("64", "192", "768", "2048", "logits_unbiased", "logits")


def relative(ours: np.ndarray, theirs: np.ndarray) -> float:
    return float(np.linalg.norm(ours - theirs) / np.linalg.norm(theirs))


@pytest.fixture(scope="module")
def extractor(inception_weights: Path) -> InceptionExtractor:
    return InceptionExtractor((*THEIR_LAYERS, "spatial"), weights=inception_weights)


@pytest.fixture(scope="module")
def few(photographs: list[np.ndarray]) -> list[np.ndarray]:
    return [photographs[0], photographs[5], photographs[6], photographs[11]]


def test_features_equal_torch_fidelity(
    extractor: InceptionExtractor, inception_weights: Path, few: list[np.ndarray]
) -> None:
    theirs = FeatureExtractorInceptionV3(
        "peer", list(THEIR_LAYERS), feature_extractor_weights_path=str(inception_weights)
    )
    ours = extractor.encode(np.stack([extractor.prepare(image) for image in few]))
    batches = [theirs(torch.from_numpy(image).permute(2, 0, 1)[None]) for image in few]
    for position, layer in enumerate(THEIR_LAYERS):
        expected = torch.cat([batch[position] for batch in batches]).numpy()
        assert ours[layer].shape == (len(few), LAYER_DIMS[layer])
        assert relative(ours[layer], expected) < FEATURES, layer


def test_spatial_layer_is_the_1x1_branch_of_mixed_6(
    extractor: InceptionExtractor, inception_weights: Path, few: list[np.ndarray]
) -> None:
    theirs = FeatureExtractorInceptionV3(
        "peer", ["2048"], feature_extractor_weights_path=str(inception_weights)
    )
    seen: list[torch.Tensor] = []
    theirs.Mixed_6d.branch1x1.register_forward_hook(lambda *call: seen.append(call[2]))
    theirs(torch.from_numpy(few[2]).permute(2, 0, 1)[None])
    ours = extractor.encode(extractor.prepare(few[2])[None])["spatial"]
    assert relative(ours, seen[0][:, :7].flatten(1).numpy()) < FEATURES


def test_features_equal_pytorch_fid(
    inception_weights: Path,
    few: list[np.ndarray],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from pytorch_fid import inception as peer

    checkpoint = tmp_path / "hub" / "checkpoints" / Path(peer.FID_WEIGHTS_URL).name
    checkpoint.parent.mkdir(parents=True)
    checkpoint.write_bytes(inception_weights.read_bytes())
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    theirs = peer.InceptionV3([3]).eval()
    ours = InceptionExtractor(weights=inception_weights, resize="pytorch-fid")
    with torch.inference_mode():
        expected = [
            theirs(torch.from_numpy(image).permute(2, 0, 1)[None] / 255)[0].flatten(1)
            for image in few
        ]
    assert relative(ours.extract(few), torch.cat(expected).numpy()) < FEATURES


@pytest.mark.parametrize(("antialias", "mode"), [(True, "torchmetrics"), (False, "tf1")])
def test_features_equal_torchmetrics(
    inception_weights: Path, few: list[np.ndarray], antialias: bool, mode: str
) -> None:
    from torchmetrics.image.fid import NoTrainInceptionV3

    theirs = NoTrainInceptionV3("peer", ["64"], str(inception_weights), antialias=antialias)
    ours = InceptionExtractor(("64",), weights=inception_weights, resize=mode)
    expected = [theirs(torch.from_numpy(image).permute(2, 0, 1)[None]).flatten() for image in few]
    assert relative(ours.extract(few), torch.stack(expected).numpy()) < FEATURES


def test_batch_size_and_layers_change_nothing(
    extractor: InceptionExtractor, inception_weights: Path, few: list[np.ndarray]
) -> None:
    prepared = np.stack([extractor.prepare(image) for image in few])
    together = extractor.encode(prepared)
    alone = InceptionExtractor(("192",), weights=inception_weights)
    one_by_one = np.concatenate([alone.encode(image[None])["192"] for image in prepared])
    assert relative(one_by_one, together["192"]) < 1e-6


def test_bf16_is_close_and_named(inception_weights: Path, few: list[np.ndarray]) -> None:
    exact = InceptionExtractor(("64",), weights=inception_weights)
    reduced = InceptionExtractor(("64",), weights=inception_weights, precision="bf16")
    assert 1e-5 < relative(reduced.extract(few), exact.extract(few)) < 0.05
    assert reduced.identity["precision"] == "bf16"


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # what the compiler warns of is not ours
def test_compiled_is_close_and_named(inception_weights: Path, few: list[np.ndarray]) -> None:
    exact = InceptionExtractor(("64",), weights=inception_weights)
    compiled = InceptionExtractor(("64",), weights=inception_weights, compiled=True)
    prepared = np.stack([exact.prepare(image) for image in few])
    expected = exact.encode(prepared)["64"]
    assert relative(compiled.encode(prepared)["64"], expected) < 1e-5
    # The last batch of a pass is smaller; it is filled up rather than compiled anew.
    assert relative(compiled.encode(prepared[:2])["64"], expected[:2]) < 1e-5
    assert compiled.identity["compiled"] is True


def test_compiling_needs_a_compiler(
    inception_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(ConfigError, match="no-such-compiler is not installed"):
        InceptionExtractor(("64",), weights=inception_weights, compiled=True)


def test_another_weights_file_is_marked(extractor: InceptionExtractor) -> None:
    assert extractor.identity["weights_note"] == "weights not the 2015 ones"
    assert extractor.metric_label == "FID"
    assert len(extractor.identity["weights_sha256"]) == 64


def test_safetensors_load_too(
    extractor: InceptionExtractor, inception_weights: Path, few: list[np.ndarray], tmp_path: Path
) -> None:
    path = tmp_path / "inception.safetensors"
    save_file(torch.load(inception_weights, weights_only=True), path)
    ours = InceptionExtractor(("64",), weights=path).extract(few)
    expected = extractor.encode(np.stack([extractor.prepare(i) for i in few]))["64"]
    np.testing.assert_allclose(ours, expected, rtol=1e-5)


class TestBadInput:
    def test_floats_are_refused(self, extractor: InceptionExtractor) -> None:
        with pytest.raises(DataError, match="Images are float64, expected uint8"):
            extractor.extract(np.zeros((1, 8, 8, 3)))

    def test_channels_first_are_refused(self, extractor: InceptionExtractor) -> None:
        with pytest.raises(DataError, match=r"shape \(3, 8, 8\), expected \(height, width, 3\)"):
            extractor.extract(np.zeros((1, 3, 8, 8), np.uint8))

    def test_an_empty_batch_is_refused(self, extractor: InceptionExtractor) -> None:
        with pytest.raises(DataError, match="empty batch"):
            extractor.extract(np.zeros((0, 8, 8, 3), np.uint8))

    def test_a_missing_file_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(MissingWeightsError, match=r"absent\.pth does not exist"):
            InceptionExtractor(weights=tmp_path / "absent.pth")

    @pytest.mark.parametrize(
        "content",
        [
            b"",
            b"no weights",
            b"PK\x03\x04 broken zip",
            b"\x80\x00a\x02}q\x00.",
            b"\x80}q\x00.",
            b"\x86PK\x03\x04",
        ],
    )
    def test_a_broken_file_is_one_line(self, tmp_path: Path, content: bytes) -> None:
        path = tmp_path / "broken.pth"
        path.write_bytes(content)
        with pytest.raises(WeightsError, match=r"broken\.pth") as caught:
            InceptionExtractor(weights=path)
        assert "\n" not in str(caught.value)

    def test_weights_of_another_network_are_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "other.pth"
        torch.save({"layer.weight": torch.zeros(3)}, path)
        with pytest.raises(WeightsError, match="not Inception-2015 weights") as caught:
            InceptionExtractor(weights=path)
        assert "\n" not in str(caught.value)

    def test_a_pickled_object_is_not_run(self, tmp_path: Path) -> None:
        path = tmp_path / "pickled.pth"
        torch.save({"harm": Path("x")}, path)
        with pytest.raises(WeightsError, match="can't be read as tensors"):
            InceptionExtractor(weights=path)

    def test_a_cached_file_of_another_hash_is_refused(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("EVALKIT_CACHE", str(tmp_path))
        path = tmp_path / "weights" / "weights-inception-2015-12-05-6726825d.pth"
        path.parent.mkdir()
        path.write_bytes(b"something else")
        with pytest.raises(WeightsError, match=r"expected 6726825d\. Delete it"):
            find_inception_weights()

    def test_without_network_the_error_comes_soon_and_says_what_to_do(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("TORCH_HOME", str(tmp_path))
        monkeypatch.setattr(
            "evalkit.features.inception_weights.WEIGHTS_URL", "https://weights.invalid/file.pth"
        )
        for variable in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.delenv(variable, raising=False)
        started = time.monotonic()
        with pytest.raises(MissingWeightsError) as caught:
            find_inception_weights()
        assert time.monotonic() - started < 5
        message = str(caught.value)
        assert "\n" not in message
        for part in ("weights-inception-2015-12-05-6726825d.pth", "6726825d", "Put the file at"):
            assert part in message

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"layers": ("1024",)}, "no layer '1024'"),
            ({"layers": ()}, "no layer"),
            ({"resize": "nearest"}, "Unknown resize mode 'nearest'"),
            ({"precision": "fp8"}, "Unknown precision 'fp8'"),
        ],
    )
    def test_unknown_options(
        self, inception_weights: Path, options: dict[str, object], message: str
    ) -> None:
        with pytest.raises(ConfigError, match=message):
            InceptionExtractor(weights=inception_weights, **options)  # type: ignore[arg-type]
