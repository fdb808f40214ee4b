"""Deviation of each metric from other libraries, on the same images and weights.

    python -m benchmarks.metrics.precision [--weights PATH] [--images 300]

Prints the table of docs/precision.md. Without `--weights`, random weights in the format of the
Inception-2015 network are used. Images are crops of photographs, of mixed sizes for the features.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import runpy
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch

from evalkit.features.inception import InceptionExtractor
from evalkit.metrics import Moments, frechet_distance, frechet_distance_from_features
from evalkit.metrics.inception_score import inception_score
from evalkit.metrics.kid import kid
from evalkit.metrics.prdc import prdc

LAYER = "192"
SIZES = ((96, 128), (300, 200), (64, 64), (299, 299), (256, 341))


def main() -> None:
    """Compute both sides and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--images", type=int, default=300)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        weights = options.weights or _random_weights(Path(folder) / "inception.pth")
        rows = [*_features(weights, Path(folder)), *_statistics(weights, options.images)]
    print("| quantity | against | measured | deviation |\n|---|---|---|---|")
    for row in rows:
        print("| " + " | ".join(row) + " |")


Row = tuple[str, str, str, str]


def _features(weights: Path, folder: Path) -> list[Row]:
    pictures = _crops(SIZES, 10, 0)
    rows = []
    for layer in ("64", "192", "768", "2048", "logits_unbiased"):
        ours = InceptionExtractor((layer,), weights=weights).extract(pictures)
        theirs = _torch_fidelity(weights, layer, pictures)
        rows.append((f"features {layer}, `tf1`", "torch-fidelity 0.4", _rel(ours, theirs)))
    ours = InceptionExtractor(weights=weights, resize="pytorch-fid").extract(pictures)
    theirs = _pytorch_fid(weights, folder, pictures)
    rows.append(("features 2048, `pytorch-fid`", "pytorch-fid 0.3", _rel(ours, theirs)))
    for mode, antialias in (("torchmetrics", True), ("tf1", False)):
        ours = InceptionExtractor(weights=weights, resize=mode).extract(pictures)
        theirs = _torchmetrics(weights, pictures, antialias=antialias)
        name = f"torchmetrics 1.9, antialias={antialias}"
        rows.append((f"features 2048, `{mode}`", name, _rel(ours, theirs)))
    exact = InceptionExtractor(weights=weights).extract(pictures)
    reduced = InceptionExtractor(weights=weights, precision="bf16").extract(pictures)
    rows.append(("features 2048, bf16", "our float32", _rel(reduced, exact)))
    return [(a, b, "relative L2", c) for a, b, c in rows]


def _statistics(weights: Path, num: int) -> list[Row]:
    from prdc import compute_prdc
    from pytorch_fid.fid_score import calculate_frechet_distance
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
    from torch_fidelity.metric_isc import isc_features_to_metric
    from torch_fidelity.metric_kid import kid_features_to_metric
    from torch_fidelity.metric_prc import prc_features_to_metric

    ours = InceptionExtractor((LAYER,), weights=weights)
    sets = [_crops(((64, 64),), num, seed) for seed in (1, 2)]
    sets[0] = [(image * 0.8).astype(np.uint8) for image in sets[0]]
    fake, real = (_in_batches(ours, pictures) for pictures in sets)
    peer_fake, peer_real = (_torch_fidelity(weights, LAYER, pictures) for pictures in sets)

    def theirs(x: np.ndarray, y: np.ndarray) -> float:
        statistics = [fid_features_to_statistics(torch.from_numpy(a)) for a in (x, y)]
        return float(fid_statistics_to_metric(*statistics, False)["frechet_inception_distance"])

    def scipy_of_pytorch_fid(x: np.ndarray, y: np.ndarray) -> float:
        x, y = x.astype(np.float64), y.astype(np.float64)
        with contextlib.redirect_stdout(io.StringIO()):
            return float(calculate_frechet_distance(x.mean(0), np.cov(x.T), y.mean(0), np.cov(y.T)))

    value = frechet_distance(Moments.from_features(fake), Moments.from_features(real))
    full = f"FID, {LAYER}-d, n = {num}"
    rows = [
        (
            full,
            "torch-fidelity, its own features",
            "relative",
            _gap(value, theirs(peer_fake, peer_real)),
        ),
        (full, "pytorch-fid's sqrtm", "relative", _gap(value, scipy_of_pytorch_fid(fake, real))),
    ]
    low, low_real = fake[:LAYER_HALF], real[:LAYER_HALF]
    exact = frechet_distance_from_features(low, low_real)
    from_moments = frechet_distance(Moments.from_features(low), Moments.from_features(low_real))
    short = f"FID, {LAYER}-d, n = {LAYER_HALF} <= d"
    plain = _low_rank(low, low_real)
    rows += [
        (short, "exact low-rank value", "relative", _gap(exact, plain)),
        (short + ", from moments", "exact low-rank value", "relative", _gap(from_moments, plain)),
        (
            "torch-fidelity's value there",
            "exact low-rank value",
            "relative",
            _gap(theirs(low, low_real), plain),
        ),
        (
            "pytorch-fid's value there",
            "exact low-rank value",
            "relative",
            _gap(scipy_of_pytorch_fid(low, low_real), plain),
        ),
    ]
    drawing: dict[str, Any] = {
        "kid_subsets": 20,
        "kid_subset_size": 100,
        "rng_seed": 2020,
        "verbose": False,
    }
    ours_kid = kid(fake, real, subsets=20, subset_size=100, seed=2020)
    key = "kernel_inception_distance_mean"
    command = kid_features_to_metric(
        torch.from_numpy(peer_fake), torch.from_numpy(peer_real), **drawing
    )[key]
    doubles = kid_features_to_metric(
        torch.from_numpy(fake.astype(np.float64)),
        torch.from_numpy(real.astype(np.float64)),
        **drawing,
    )[key]
    rows += [
        (
            "KID, 20 subsets of 100",
            "torch-fidelity's command (float32)",
            "absolute",
            f"{abs(ours_kid.value - command):.1e}",
        ),
        (
            "KID, 20 subsets of 100",
            "its function on float64",
            "relative",
            _gap(ours_kid.value, doubles),
        ),
    ]
    logits = _in_batches(InceptionExtractor(("logits_unbiased",), weights=weights), sets[0][:60])
    score = inception_score(logits, splits=5)
    peer_score = isc_features_to_metric(torch.from_numpy(logits), splits=5)["inception_score_mean"]
    rows.append(
        (
            f"Inception Score ({score.value:.2f})",
            "torch-fidelity",
            "relative",
            _gap(score.value, peer_score),
        )
    )
    for k in (3, 5):
        found = prdc(fake, real, k=k)
        peer = prc_features_to_metric(
            torch.from_numpy(fake), torch.from_numpy(real), prc_neighborhood=k,
            prc_batch_size=1000, save_cpu_ram=False, verbose=False,
        )  # fmt: skip
        with contextlib.redirect_stdout(io.StringIO()):
            four = compute_prdc(real.astype(np.float64), fake.astype(np.float64), k)
        worst = max(abs(found[n].value - peer[n]) for n in ("precision", "recall"))
        rows.append((f"precision, recall, k = {k}", "torch-fidelity", "absolute", f"{worst:.1e}"))
        worst = max(abs(found[n].value - four[n]) for n in four)
        rows.append((f"all four, k = {k}", "prdc 0.2", "absolute", f"{worst:.1e}"))
    return rows


LAYER_HALF = 100


def _low_rank(x: np.ndarray, y: np.ndarray) -> float:
    x, y = x.astype(np.float64), y.astype(np.float64)
    a, b = ((s - s.mean(0)) / np.sqrt(len(s) - 1) for s in (x, y))
    gap = x.mean(0) - y.mean(0)
    nuclear = np.linalg.svd(a @ b.T, compute_uv=False).sum()
    return float(gap @ gap + (a**2).sum() + (b**2).sum() - 2 * nuclear)


def _rel(ours: np.ndarray, theirs: np.ndarray) -> str:
    return f"{np.linalg.norm(ours - theirs) / np.linalg.norm(theirs):.1e}"


def _gap(ours: float, theirs: float) -> str:
    return f"{abs(ours - theirs) / abs(theirs):.1e}"


def _batch(picture: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(picture).permute(2, 0, 1)[None]


def _in_batches(extractor: InceptionExtractor, pictures: list[np.ndarray]) -> np.ndarray:
    return np.concatenate(
        [extractor.extract(pictures[i : i + 50]) for i in range(0, len(pictures), 50)]
    )


def _torch_fidelity(weights: Path, layer: str, pictures: list[np.ndarray]) -> np.ndarray:
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    network = FeatureExtractorInceptionV3(
        "peer", [layer], feature_extractor_weights_path=str(weights)
    )
    return torch.cat([network(_batch(picture))[0] for picture in pictures]).numpy()


def _pytorch_fid(weights: Path, folder: Path, pictures: list[np.ndarray]) -> np.ndarray:
    from pytorch_fid import inception

    checkpoint = folder / "hub" / "checkpoints" / Path(inception.FID_WEIGHTS_URL).name
    checkpoint.parent.mkdir(parents=True)
    checkpoint.write_bytes(weights.read_bytes())
    os.environ["TORCH_HOME"] = str(folder)
    network = inception.InceptionV3([3]).eval()
    with torch.inference_mode():
        found = [network(_batch(picture) / 255)[0].flatten(1) for picture in pictures]
    return torch.cat(found).numpy()


def _torchmetrics(weights: Path, pictures: list[np.ndarray], *, antialias: bool) -> np.ndarray:
    from torchmetrics.image.fid import NoTrainInceptionV3

    network = NoTrainInceptionV3("peer", ["2048"], str(weights), antialias=antialias)
    return torch.cat(
        [network(_batch(picture))[None].reshape(1, -1) for picture in pictures]
    ).numpy()


def _crops(sizes: Any, count: int, seed: int) -> list[np.ndarray]:
    from skimage import data
    from sklearn.datasets import load_sample_images

    full = [*load_sample_images().images, data.astronaut(), data.coffee(), data.chelsea()]
    rng = np.random.default_rng(seed)
    crops = []
    for index in range(count):
        image = full[rng.integers(len(full))]
        height, width = (
            min(s, e) for s, e in zip(sizes[index % len(sizes)], image.shape, strict=False)
        )
        top = int(rng.integers(image.shape[0] - height + 1))
        left = int(rng.integers(image.shape[1] - width + 1))
        crops.append(np.array(image[top : top + height, left : left + width]))
    return crops


def _random_weights(path: Path) -> Path:
    # By path: another package's `tests` could be imported instead.
    source = Path(__file__).resolve().parents[2] / "tests" / "reference" / "inception_weights.py"
    written: Path = runpy.run_path(str(source))["write_inception_weights"](path)
    return written


if __name__ == "__main__":
    main()
