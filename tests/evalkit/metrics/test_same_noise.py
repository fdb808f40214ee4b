"""PSNR, SSIM, LPIPS and cosines of two runs: values, pairs of requests, clusters, weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from evalkit.core.errors import DataError, MissingWeightsError, WeightsError
from evalkit.core.intervals import t_interval
from evalkit.core.results import ResultRecord
from evalkit.features.lpips_weights import find_alexnet
from evalkit.features.sources import ArrayImage, ImageItem
from evalkit.metrics.comparison import compare_sets
from evalkit.metrics.same_noise import highest_psnr, match_requests, psnr, ssim
from evalkit.metrics.score import MeasureOptions, score_sets
from evalkit.metrics.statistics_files import read_statistics

SIDE_PX = 40
FLOAT32 = 1e-5
"""Networks and the constants of torchmetrics are float32."""


def images(n: int = 6, seed: int = 0) -> np.ndarray:
    """Smooth coloured images, uint8."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (n, 5, 5, 3)).astype(np.float64)
    return coarse.repeat(8, axis=1).repeat(8, axis=2).astype(np.uint8)


def noisy(given: np.ndarray, levels: int, seed: int = 1) -> np.ndarray:
    rng = np.random.default_rng(seed)
    changed = given.astype(int) + rng.integers(-levels, levels + 1, given.shape)
    return changed.clip(0, 255).astype(np.uint8)


def as_run(pixels: np.ndarray, what: str, per_caption: int = 1) -> list[ImageItem]:
    return [
        ImageItem(
            ArrayImage(f"{what}[{i}]", image),
            caption=f"caption {i // per_caption}",
            caption_id=str(i // per_caption),
            sample_index=i % per_caption,
            seed=1000 + i,
        )
        for i, image in enumerate(pixels)
    ]


@pytest.fixture
def options(tmp_path: Path) -> MeasureOptions:
    return MeasureOptions(store=tmp_path / "store", clip_model="shapes-clip")


@pytest.fixture(scope="module")
def alexnet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Torchvision's AlexNet with seeded random weights."""
    from torchvision.models import alexnet

    with torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(0)
        state = alexnet(weights=None).state_dict()
    path = tmp_path_factory.mktemp("alexnet") / "random.pth"
    torch.save(state, path)
    return path


def one(records: Sequence[ResultRecord]) -> ResultRecord:
    (record,) = records
    assert record.value is not None
    return record


class TestValues:
    def test_psnr_by_hand(self) -> None:
        """All values off by 10: MSE 100, so 10 log10(255^2 / 100) = 28.1308 dB."""
        dark = np.full((2, 8, 8, 3), 100, np.uint8)
        assert psnr(dark, dark + 10) == pytest.approx([28.130803609] * 2, abs=FLOAT32)

    def test_equal_images_have_the_highest_psnr_and_it_is_above_all_others(self) -> None:
        given = images(1)
        least = given.copy()
        least[0, 0, 0, 0] += 1 if least[0, 0, 0, 0] < 255 else -1
        assert psnr(given, given)[0] == highest_psnr((SIDE_PX, SIDE_PX, 3))
        assert psnr(given, least)[0] == pytest.approx(highest_psnr((SIDE_PX, SIDE_PX, 3)))
        assert psnr(given, noisy(given, 1))[0] < highest_psnr((SIDE_PX, SIDE_PX, 3))

    def test_ssim_is_that_of_scikit_image(self) -> None:
        """Given the border that torchmetrics reflects; without it, skimage repeats the edge."""
        from skimage.metrics import structural_similarity

        first, second = images(2), noisy(images(2), 30)
        for found, a, b in zip(ssim(first, second), first, second, strict=True):
            padded = [np.pad(image, [(5, 5), (5, 5), (0, 0)], mode="reflect") for image in (a, b)]
            _, full = structural_similarity(
                *padded, data_range=255, channel_axis=2, gaussian_weights=True, sigma=1.5,
                use_sample_covariance=False, full=True,
            )  # fmt: skip
            assert found == pytest.approx(full[5:-5, 5:-5].mean(), abs=1e-6)

    def test_lpips_is_torchmetrics_own_on_the_same_backbone(
        self, alexnet: Path, options: MeasureOptions, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from torchmetrics.functional.image.lpips import _NoTrainLpips
        from torchvision import models

        first, second = images(), noisy(images(), 40)
        found = one(
            score_sets(
                as_run(first, "a"), as_run(second, "b"), ["lpips"],
                replace(options, lpips_weights=alexnet),
            )
        )  # fmt: skip

        def stored(weights: object) -> torch.nn.Module:
            network = models.AlexNet()
            network.load_state_dict(torch.load(alexnet, weights_only=True))
            return network

        monkeypatch.setattr(models, "alexnet", stored)
        theirs = _NoTrainLpips(net="alex")
        scaled = [
            torch.from_numpy(of).permute(0, 3, 1, 2).float() / 127.5 - 1 for of in (first, second)
        ]
        assert found.value == pytest.approx(float(theirs(*scaled).mean()), rel=FLOAT32)
        assert found.value > 0
        assert found.fingerprint["extractor"]["weights_sha256"]

    def test_the_order_of_the_other_run_does_not_matter(self, options: MeasureOptions) -> None:
        first, second = as_run(images(), "a"), as_run(noisy(images(), 9), "b")
        straight = one(score_sets(first, second, ["psnr"], options))
        turned = one(score_sets(first, second[::-1], ["psnr"], options))
        assert straight.value == turned.value
        assert straight.value == pytest.approx(psnr(images(), noisy(images(), 9)).mean())

    def test_samples_of_a_caption_are_one_draw(self, options: MeasureOptions) -> None:
        first = as_run(images(12), "a", per_caption=3)
        second = as_run(noisy(images(12), 60), "b", per_caption=3)
        found = one(score_sets(first, second, ["ssim"], options))
        means = ssim(images(12), noisy(images(12), 60)).reshape(4, 3).mean(axis=1)
        error = means.std(ddof=1) / 2
        low, high = t_interval(means.mean(), error, 3, level=0.95)
        assert found.interval is not None
        assert (found.interval.low, found.interval.high) == pytest.approx((low, high))
        assert "4 ids as draws" in found.interval.method

    def test_cosines_are_one_for_equal_images_and_less_for_others(
        self, options: MeasureOptions
    ) -> None:
        run = as_run(images(), "a")
        same = one(score_sets(run, as_run(images(), "b"), ["clip-cosine"], options))
        other = one(score_sets(run, as_run(images(seed=7), "b"), ["clip-cosine"], options))
        assert same.value == pytest.approx(1)
        assert same.details["equal_images"] == 6
        assert other.value is not None
        assert other.value < 0.999
        assert other.details["label"] == "CLIP cosine (shapes-clip)"

    def test_two_variants_are_compared_by_their_closeness_to_a_third(
        self, options: MeasureOptions
    ) -> None:
        base = as_run(images(), "base")
        close, far = (as_run(noisy(images(), levels), "x") for levels in (3, 30))
        found = one(compare_sets(close, far, base, ["psnr"], options))
        assert found.metric == "psnr-difference"
        assert found.value is not None
        assert found.value > 10
        assert found.interval is not None
        assert found.interval.low > 0


def altered(change: Callable[[ImageItem], ImageItem]) -> list[ImageItem]:
    items = as_run(images(), "b")
    return [*items[:-1], change(items[-1])]


class TestRequests:
    @pytest.mark.parametrize(
        ("other", "said"),
        [
            (altered(lambda x: replace(x, seed=5)), "seeds of 1 of 6 pairs of images differ"),
            (altered(lambda x: replace(x, caption="a cat")), "captions of 1 of 6 pairs"),
            (altered(lambda x: replace(x, caption_id="99")), "such as caption 99, sample 0"),
            (as_run(images(5), "b"), "1 only in the samples, such as caption 5, sample 0"),
            (altered(lambda x: replace(x, caption_id="0")), "Two images of the reference"),
        ],
    )
    def test_runs_of_other_requests_are_refused(self, other: list[ImageItem], said: str) -> None:
        with pytest.raises(DataError, match=said):
            match_requests(as_run(images(), "a"), other)

    def test_folders_are_paired_by_name_and_it_is_said(
        self, tmp_path: Path, options: MeasureOptions
    ) -> None:
        items: list[list[ImageItem]] = []
        for what, pixels in (("a", images()), ("b", noisy(images(), 5))):
            (tmp_path / what).mkdir()
            for i, image in enumerate(pixels):
                Image.fromarray(image).save(tmp_path / what / f"{i}.png")
            items.append([ImageItem(file) for file in sorted((tmp_path / what).iterdir())])
        found = one(score_sets(items[0], items[1], ["psnr"], options))
        assert found.details["paired_by"] == "file name; the seeds are unknown"
        assert found.reason == "paired by file name; the seeds are unknown"
        with pytest.raises(DataError, match=r"1 only in the reference, such as 5\.png"):
            score_sets(items[0][:-1], items[1], ["psnr"], options)

    def test_images_of_two_sizes_are_refused(self, options: MeasureOptions) -> None:
        small = as_run(images()[:, ::2, ::2], "small")
        with pytest.raises(DataError, match=r"has 40x40 px, but .* has 20x20"):
            score_sets(as_run(images(), "a"), small, ["psnr"], options)

    def test_images_too_small_for_a_metric_are_refused(
        self, options: MeasureOptions, alexnet: Path
    ) -> None:
        tiny = as_run(images()[:, :30, :30], "tiny")
        with pytest.raises(DataError, match="LPIPS needs images of at least 31 px"):
            score_sets(tiny, tiny, ["lpips"], replace(options, lpips_weights=alexnet))
        tiny = as_run(images()[:, :5, :5], "tiny")
        with pytest.raises(DataError, match="SSIM needs images of at least 6 px"):
            score_sets(tiny, tiny, ["ssim"], options)

    def test_a_statistics_file_is_no_other_run(
        self, tmp_path: Path, options: MeasureOptions
    ) -> None:
        np.savez(tmp_path / "s.npz", mu=np.zeros(128), sigma=np.eye(128))
        against = read_statistics(tmp_path / "s.npz")
        with pytest.raises(DataError, match="statistics"):
            score_sets(as_run(images(), "a"), against, ["psnr"], options)


class TestWeights:
    def test_missing_ones_are_said_without_a_download(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("EVALKIT_CACHE", str(tmp_path))
        monkeypatch.setenv("TORCH_HOME", str(tmp_path))
        monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
        with pytest.raises(MissingWeightsError, match="--lpips-weights PATH"):
            find_alexnet()

    def test_a_cached_file_of_another_hash_is_refused(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, alexnet: Path
    ) -> None:
        monkeypatch.setenv("EVALKIT_CACHE", str(tmp_path))
        (tmp_path / "weights").mkdir()
        (tmp_path / "weights" / "alexnet-owt-7be5be79.pth").write_bytes(alexnet.read_bytes())
        with pytest.raises(WeightsError, match="expected 7be5be79"):
            find_alexnet()

    def test_weights_of_another_network_are_refused(
        self, tmp_path: Path, options: MeasureOptions
    ) -> None:
        path = tmp_path / "other.pth"
        torch.save({"features.0.weight": torch.zeros(3)}, path)
        run = as_run(images(), "a")
        with pytest.raises(WeightsError, match=r"expected features\.0\.weight of shape"):
            score_sets(run, run, ["lpips"], replace(options, lpips_weights=path))
