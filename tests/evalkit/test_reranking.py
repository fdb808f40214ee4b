"""The best of several candidates: picked rightly, marked everywhere, never judged by the picker."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from drawbench.study.sources import open_source
from drawbench.suites import load_suite
from evalkit import cli, reranking
from evalkit.commands.suite import SuiteOptions, generate_suite
from evalkit.core.errors import ConfigError, UnknownNameError
from evalkit.core.progress import silent
from evalkit.core.results import read_records
from evalkit.core.run import RunFolder
from evalkit.core.seeding import candidate_seed
from evalkit.datasets.shapes.dataset import write_shapes
from evalkit.features import clip as clip_features
from evalkit.features.shapes_clip import ShapesClipExtractor
from evalkit.metrics.clip_score import clip_cosines
from evalkit.options import SamplingOptions
from evalkit.reranking import RerankedGenerator, refuse_own_judge, reranked
from generators.base import GeneratorSpec, Request, Sample

COLOURS = {"red": 0, "green": 1, "blue": 2}


@dataclass
class Painter:
    """Paints a colour that the seed decides; every seed divisible by `fails` has no image."""

    conditioning: str = "text"
    training_data: tuple[str, ...] = ("shapes",)
    fails: int = 0

    @property
    def spec(self) -> GeneratorSpec:
        return GeneratorSpec(
            name="painter",
            display_name="Painter",
            conditioning=self.conditioning,  # type: ignore[arg-type]
            stages=(),
            size_px=2,
            training_data=self.training_data,
            weights="none",
            weights_sha256="",
        )

    def generate(self, requests: Sequence[Request], settings: object) -> list[Sample]:
        return [self.paint(request.seed) for request in requests]

    def paint(self, seed: int) -> Sample:
        if self.fails and seed % self.fails == 0:
            return Sample(image=None, status="filtered", reason="not shown")
        colour = np.random.default_rng(seed).integers(1, 256, 3, dtype=np.uint8)
        return Sample(image=np.full((2, 2, 3), colour, np.uint8), notes=("painted",))


class Eye:
    """Embeds an image as its mean colour, a prompt as the colour it names."""

    identity = {"weights_sha256": "e" * 64}  # noqa: RUF012

    def prepare(self, image: np.ndarray) -> np.ndarray:
        return image

    def encode(self, prepared: np.ndarray) -> dict[str, np.ndarray]:
        return {"image": prepared.reshape(len(prepared), -1, 3).mean(axis=1).astype(np.float32)}

    def encode_text(self, captions: Sequence[str]) -> np.ndarray:
        return np.eye(3, dtype=np.float32)[[COLOURS[caption] for caption in captions]]


REQUESTS = [Request(prompt=prompt, seed=seed) for seed, prompt in enumerate(COLOURS, start=11)]


def best_of(candidates: int, requests: Sequence[Request] = REQUESTS, **painter: Any) -> list[Any]:
    generator = RerankedGenerator(
        Painter(**painter),
        Eye(),
        name="eye",
        candidates=candidates,
    )
    return generator.generate(requests, {})


def test_the_candidate_nearest_to_the_prompt_is_kept() -> None:
    """All candidates painted one by one, and the cosine worked out from the colour itself."""
    for request, sample in zip(REQUESTS, best_of(8), strict=True):
        painted = [Painter().paint(candidate_seed(request.seed, k)).image for k in range(8)]
        colours = [image[0, 0].astype(float) for image in painted if image is not None]
        cosines = [c[COLOURS[str(request.prompt)]] / np.linalg.norm(c) for c in colours]
        winner = int(np.argmax(cosines))
        assert (sample.image == painted[winner]).all()
        assert sample.notes == (
            "painted",
            f"re-ranked by eye: candidate {winner} of 8 (counted from 0), "
            f"cosine {cosines[winner]:.3f}",
        )


def test_more_candidates_hold_the_fewer_and_one_is_the_plain_image() -> None:
    def cosines(candidates: int) -> list[float]:
        return [float(sample.notes[-1].rpartition(" ")[2]) for sample in best_of(candidates)]

    assert all(a <= b <= c for a, b, c in zip(cosines(1), cosines(4), cosines(16), strict=True))
    assert sum(cosines(1)) < sum(cosines(16))
    plain = Painter().generate(REQUESTS, {})
    for kept, alone in zip(best_of(1), plain, strict=True):
        assert (kept.image == alone.image).all()


def test_what_is_kept_does_not_depend_on_the_batch() -> None:
    together = best_of(5)
    for request, sample in zip(REQUESTS, together, strict=True):
        assert (best_of(5, [request])[0].image == sample.image).all()


def test_candidates_without_an_image_are_passed_over_unless_there_is_no_other() -> None:
    seeds = [candidate_seed(12, k) for k in range(4)]
    assert seeds[0] % 2 == 0
    assert any(seed % 2 for seed in seeds)
    request = [Request(prompt="red", seed=12)]
    assert best_of(4, request, fails=2)[0].status == "ok"
    nothing = best_of(4, request, fails=1)[0]
    assert (nothing.image, nothing.status, nothing.reason) == (None, "filtered", "not shown")
    assert nothing.notes == ("re-ranked: none of 4 candidates has an image",)


def test_clip_means_the_kind_that_goes_with_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(reranking, "_load", lambda name, device: asked.append(name) or Eye())
    for painter, rerank in (
        (Painter(), "clip"),
        (Painter(training_data=()), "clip"),
        (Painter(), "ViT-B/32"),
        (Painter(), "clip:ViT-B/32"),
    ):
        found = reranked(painter, rerank=rerank, candidates=2, device="cpu")
        assert found.description["by"] == asked[-1]
    assert asked == ["clip:tiny", "clip:ViT-B/16", "clip:ViT-B/32", "clip:ViT-B/32"]


def test_without_a_choice_nothing_is_re_ranked() -> None:
    painter = Painter()
    assert reranked(painter, rerank=None, candidates=1, device="cpu") is painter
    assert reranked(painter, rerank="clip", candidates=1, device="cpu") is painter


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"candidates": 4}, "--candidates 4 needs --rerank, such as --rerank clip"),
        ({"candidates": 0}, "at least 1, got 0"),
        ({"rerank": "clip:tiny-judge"}, "the judge only scores"),
        ({"rerank": "shapes-clip", "candidates": 4}, "Use --rerank clip:tiny"),
    ],
)
def test_options_that_do_not_go_together(options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        reranked(Painter(), **{"rerank": None, "candidates": 1, "device": "cpu", **options})
    with pytest.raises(ConfigError, match="painter takes none \\(conditioning: class\\)"):
        reranked(Painter("class"), rerank="clip", candidates=2, device="cpu")
    with pytest.raises(
        UnknownNameError, match=r"--rerank clip:vit: unknown CLIP\. Use clip, clip:tiny, ViT"
    ):
        reranked(Painter(), rerank="vit", candidates=2, device="cpu")


def test_who_picked_does_not_score(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        clip_features,
        "load_clip",
        lambda name: SimpleNamespace(identity={"weights_sha256": name[-1] * 64}),
    )
    picked = {"by": "clip:ViT-B/3", "candidates": 4, "weights_sha256": "3" * 64}
    with pytest.raises(ConfigError, match="ViT-B/3 can't score these images: it selected them"):
        refuse_own_judge(picked, ["inception", "clip:ViT-B/3"])
    refuse_own_judge(picked, ["inception", "shapes-clip", "clip:ViT-L/4"])
    refuse_own_judge(False, ["clip:ViT-B/3"])


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shapes(tmp_path_factory.mktemp("shapes"), 0, 12)


def run(*arguments: str | Path) -> int:
    sys.argv = ["evalkit", *map(str, arguments)]
    try:
        cli.main()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


GLIDE = ["--model", "glide:tiny", "--steps", "base=2,upsampler=1", "--n", "4", "--batch-size", "4"]


def test_a_re_ranked_run_says_so_everywhere(
    drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", sys.argv)
    judge = ["--features", "shapes-clip", "--clip-model", "shapes-clip"]
    best, plain = tmp_path / "best", tmp_path / "plain"
    common = ["fid", *GLIDE, "--data", drawn, *judge]
    assert run(*common, "--candidates", "3", "--rerank", "clip", "--out", best) == 0
    assert "re-ranked" in capsys.readouterr().out
    assert run("generate", *GLIDE, "--data", drawn, "--out", plain) == 0

    config = json.loads((best / "run.json").read_text())["config"]
    assert config["reranked"]["by"] == "clip:tiny"
    assert config["reranked"]["candidates"] == 3
    rows = RunFolder.read(best).rows()
    assert all("re-ranked by clip:tiny: candidate" in row.notes[-1] for row in rows)
    for record in read_records(best / "results.json"):
        assert record.fingerprint["reranked"] == config["reranked"]
    page = (best / "report.html").read_text()
    assert "re-ranked" in page
    assert "3 per prompt, selected by clip:tiny" in page
    assert "reranked.by" in (best / "results.csv").read_text().splitlines()[0]

    clip = ShapesClipExtractor(clip="clip:tiny")
    means = []
    for folder in (best, plain):
        found = RunFolder.read(folder)
        pixels = np.stack([np.asarray(Image.open(found.image_path(row))) for row in found.rows()])
        texts = clip.encode_text([str(row.prompt) for row in found.rows()])
        means.append(clip_cosines(clip.encode(pixels)["embedding"], texts).mean())
    assert means[0] > means[1]

    assert run("generate", *GLIDE, "--data", drawn, "--out", best) == 2
    assert "holds another run (reranked" in capsys.readouterr().err


def test_a_suite_of_re_ranked_samples_is_known_as_such(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from evalkit.commands import suite as command

    small = replace(load_suite("shapes-bench"), prompts=load_suite("shapes-bench").prompts[:2])
    monkeypatch.setattr(command, "load_suite", lambda name: small)
    options = SuiteOptions(
        suite="shapes-bench",
        models=("glide:tiny",),
        per_prompt=2,
        sampling=SamplingOptions(steps="base=2,upsampler=1", candidates=2, rerank="clip"),
        out=tmp_path,
    )
    folder = generate_suite(options, silent)["glide:tiny"]
    assert RunFolder.read(folder).config["reranked"]["candidates"] == 2
    source = open_source("m", folder, small.prompts, per_prompt=2, allow_reranked=True)
    assert source.selection == "re-ranked"


def test_a_picker_is_stopped_before_it_measures(
    drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", sys.argv)
    own = ShapesClipExtractor(clip="clip:tiny")
    monkeypatch.setattr(clip_features, "load_clip", lambda name, **_: own)
    common = ["fid", *GLIDE, "--data", drawn, "--features", "shapes-clip", "--candidates", "2"]
    assert (
        run(*common, "--rerank", "clip", "--clip-model", "ViT-B/32", "--out", tmp_path / "r") == 2
    )
    error = capfd.readouterr().err
    assert "ViT-B/32 can't score these images: it selected them (clip:tiny, best of 2)" in error
    assert not list(tmp_path.rglob("*.png"))
