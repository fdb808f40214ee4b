"""Known answers: the cheapest runs end to end, what is missing says what to get."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from evalkit import cli
from evalkit.analyses.known_answers import KNOWN_ANSWERS, Outcome, Target
from evalkit.commands.reproduce import reproduce, verdict
from evalkit.core.errors import ConfigError, MissingDataError, UnknownNameError
from evalkit.core.progress import console, silent
from evalkit.core.results import ResultRecord
from evalkit.core.run import RunFolder
from evalkit.datasets.open import open_dataset
from evalkit.measurement import reference_items
from evalkit.metrics.score import score_sets
from evalkit.options import MeasureOptions
from tests.evalkit.commands.conftest import photographs


@pytest.fixture
def cifar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A few hundred crops of photographs in the format of CIFAR-10's binary version."""
    rng = np.random.default_rng(0)
    sources = [np.asarray(photo.convert("RGB").resize((200, 150))) for photo in photographs()]

    def rows(n: int) -> bytes:
        found = []
        for number in range(n):
            photo = sources[number % len(sources)]
            top, left = int(rng.integers(0, 118)), int(rng.integers(0, 168))
            crop = photo[top : top + 32, left : left + 32].transpose(2, 0, 1)
            found.append(bytes([number % 10]) + crop.tobytes())
        return b"".join(found)

    for number in range(1, 6):
        (tmp_path / f"data_batch_{number}.bin").write_bytes(rows(40))
    (tmp_path / "test_batch.bin").write_bytes(rows(100))
    monkeypatch.setenv("EVALKIT_CIFAR10", str(tmp_path))
    return tmp_path


@pytest.mark.usefixtures("cifar")
def test_the_cheapest_public_check_runs_end_to_end(
    inception_weights: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """300 images and random weights: another value, and the verdict says so.

    A shallow layer stands in for the last one, which takes minutes here.
    """
    answer = KNOWN_ANSWERS["real-cifar10"]
    shallow = replace(answer, options={**answer.options, "inception_layer": "64"})
    monkeypatch.setitem(KNOWN_ANSWERS, "real-cifar10", shallow)
    options = MeasureOptions(inception_weights=inception_weights)
    (found,) = reproduce("real-cifar10", options, progress=silent)
    test, train = (
        reference_items(open_dataset("cifar10", split=split)) for split in ("test", "train")
    )
    assert (len(test), len(train)) == (100, 200)
    plain = MeasureOptions(inception_weights=inception_weights, inception_layer="64")
    (expected, *_) = score_sets(test, train, ["fid"], plain)
    assert found.record is not None
    assert found.record.value == expected.value
    assert not found.reproduced
    shown = " ".join(capsys.readouterr().out.split())
    assert "not reproduced" in shown
    assert "3.1525 ± 0.01" in shown


def test_a_check_that_generates_follows_its_protocol(
    cifar: Path,
    tmp_path: Path,
    inception_weights: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """`ddpm-cifar10` with ddpm:tiny, 24 images and a shallow layer in place of the real ones."""
    small = replace(
        KNOWN_ANSWERS["ddpm-cifar10"],
        model="ddpm:tiny",
        request={"n": 24},
        sampling={"steps": "2"},
        options={"inception_layer": "64", "metrics": ("fid",)},
        departures=("Everything is smaller.",),
    )
    monkeypatch.setitem(KNOWN_ANSWERS, "ddpm-cifar10", small)
    options = MeasureOptions(inception_weights=inception_weights)
    out = tmp_path / "run"
    (found,) = reproduce("ddpm-cifar10", options, out=out, progress=silent)
    assert found.record is not None
    assert found.record.n == 24
    assert found.record.fingerprint["protocol"] == "ddpm-cifar10-50k"
    assert RunFolder.read(out).config["settings"]["base"]["steps"] == 2
    assert not found.reproduced
    shown = " ".join(capsys.readouterr().out.split())
    assert "Otherwise than the source: Everything is smaller." in shown


def test_a_check_against_named_statistics_asks_for_them_before_it_samples(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match="references keep imagenet64@adm") as caught:
        reproduce("adm-in64-sampled", MeasureOptions(), out=tmp_path / "run", progress=silent)
    assert "64x64_classifier.pt" in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_a_folder_is_scored_as_its_protocol_says(
    tmp_path: Path, inception_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`gigagan` on crops of photographs, with a reference of the same kind."""
    monkeypatch.setenv("EVALKIT_CACHE", str(tmp_path / "cache"))
    known = tmp_path / "cache" / "known"
    for folder, first in (("t2i_coco256", 0), ("reference", 9)):
        (known / folder).mkdir(parents=True)
        for number in range(12):
            photo = photographs()[number % len(photographs())].convert("RGB")
            box = (first + number, number, first + number + 90, number + 70)
            photo.crop(box).save(known / folder / f"{number}.png")
    small = replace(
        KNOWN_ANSWERS["gigagan"],
        against="reference",
        options={"inception_layer": "64", "metrics": ("fid",)},
    )
    monkeypatch.setitem(KNOWN_ANSWERS, "gigagan", small)
    options = MeasureOptions(inception_weights=inception_weights)
    (found,) = reproduce("gigagan", options, progress=silent)
    assert found.record is not None
    assert found.record.fingerprint["sample_preparation"]["filter"] == "lanczos"
    assert found.record.fingerprint["size_px"] == 256
    assert found.record.fingerprint["extractor"]["resize"] == "clean"


def test_what_is_missing_says_what_to_get() -> None:
    with pytest.raises(MissingDataError, match="binary version of CIFAR-10"):
        reproduce("real-cifar10", MeasureOptions(), progress=silent)
    with pytest.raises(MissingDataError, match=r"admnet_guided_imagenet64.npz \(0.61 GB\)"):
        reproduce("adm-in64", MeasureOptions(), progress=silent)
    with pytest.raises(ConfigError, match="instaflow_0_9B") as caught:
        reproduce("instaflow", MeasureOptions(), progress=silent)
    assert "\n" not in str(caught.value)
    with pytest.raises(UnknownNameError, match="did you mean 'karlo'"):
        reproduce("carlo", MeasureOptions(), progress=silent)


def test_the_list_has_value_cost_and_licence(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "_width", 300)
    cli.app(["reproduce"], standalone_mode=False)
    shown = " ".join(capsys.readouterr().out.split())
    assert "fid 3.94256 ± 0.02" in shown
    for name, row in KNOWN_ANSWERS.items():
        assert name in shown
        assert row.source
        assert row.licence


def test_the_verdict_is_by_the_tolerance() -> None:
    target = Target(metric="fid", value=2.0, tolerance=0.1)

    def outcome(value: float) -> Outcome:
        record = ResultRecord(metric="fid", value=value, n=9, direction="lower")
        return Outcome(target=target, record=record)

    assert verdict(outcome(2.09)) == "reproduced, +0.09"
    assert verdict(outcome(1.8)) == "not reproduced, -0.2"
    assert verdict(Outcome(target=target, record=None)) == "not measured"


@pytest.mark.slow
def test_our_own_check_is_reproduced(tmp_path: Path) -> None:
    (found,) = reproduce("glide-tiny", MeasureOptions(), out=tmp_path / "run", progress=silent)
    assert found.reproduced
