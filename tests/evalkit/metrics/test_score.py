"""All metrics of two sets in one pass: records, fingerprints, states, bad input."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from evalkit.catalog import METRICS
from evalkit.core.errors import (
    ConfigError,
    DataError,
    MissingWeightsError,
    NotEnoughImagesError,
    UnknownNameError,
)
from evalkit.core.results import ResultRecord
from evalkit.features.base import PreparedExtractor
from evalkit.features.sources import ImageItem, image_items
from evalkit.metrics import score
from evalkit.metrics.frechet.moments import Moments
from evalkit.metrics.score import metric_needs, score_sets
from evalkit.metrics.statistics_files import (
    is_statistics_file,
    read_statistics,
    write_statistics,
)
from evalkit.options import MeasureOptions


class Pixels(PreparedExtractor):
    """Four mean pixels as features; captions by their length and letters."""

    def __init__(self, name: str, layers: Sequence[str]) -> None:
        self.name = name
        self.layers: Mapping[str, int] = dict.fromkeys(layers or ("main",), 4)
        self.num_prepared = 0

    @property
    def identity(self) -> Mapping[str, Any]:
        return {"extractor": self.name, "resize": "none", "precision": "float32"}

    @property
    def metric_label(self) -> str:
        return "FID" if self.name == "inception" else f"FD ({self.name})"

    def prepare(self, image: np.ndarray) -> np.ndarray:
        self.num_prepared += 1
        return image.reshape(4, -1).mean(axis=1).astype(np.float32) / 64

    def encode(self, prepared: np.ndarray) -> dict[str, np.ndarray]:
        return dict.fromkeys(self.layers, prepared)

    def encode_text(self, captions: Sequence[str]) -> np.ndarray:
        return np.array([[len(c), c.count("e"), c.count("1"), 1] for c in captions], np.float32)


class Loaded(dict[str, Pixels]):
    """The extractors that a test has loaded, by name."""


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> Loaded:
    found = Loaded()

    def load_extractor(key: str, options: Any, layers: Any = (), progress: Any = None) -> Pixels:
        found[key] = Pixels(key, layers)
        return found[key]

    monkeypatch.setattr(score, "load_extractor", load_extractor)
    return found


@pytest.fixture
def sets(tmp_path: Path) -> tuple[list[ImageItem], list[ImageItem]]:
    """Forty samples with captions, forty reference images with their ids."""
    rng = np.random.default_rng(0)
    for name, scale in (("fake", 0.8), ("real", 1.0)):
        (tmp_path / name).mkdir()
        for i in range(40):
            pixels = rng.integers(0, 256, (4, 2, 3)) * scale
            Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / name / f"{i:02}.png")
    samples = [
        replace(item, image_id=str(i), caption_id=f"c{i}", caption=f"scene {i} of {'e' * (i % 7)}")
        for i, item in enumerate(image_items(tmp_path / "fake"))
    ]
    real = [replace(item, image_id=str(i)) for i, item in enumerate(image_items(tmp_path / "real"))]
    return samples, real


@pytest.fixture
def options(tmp_path: Path) -> MeasureOptions:
    return MeasureOptions(
        store=tmp_path / "store", distractors=9, kid_subset_size=20, clip_model="ViT-B/32"
    )


def by_name(records: Sequence[ResultRecord]) -> dict[str, ResultRecord]:
    return {record.metric: record for record in records}


Sets = tuple[list[ImageItem], list[ImageItem]]


def test_a_score_without_a_finite_interval_says_why(
    loaded: Loaded, sets: Sets, options: MeasureOptions
) -> None:
    reasons = []
    for n in (1, 2):
        few = replace(options, is_splits=1, level=1 - 1e-9)
        (record,) = score_sets(sets[0][:n], None, ["is"], few)
        assert record.interval is None
        reasons.append(record.reason)
    assert "single draw" in reasons[0]
    assert "no finite upper end" in reasons[1]


def test_every_metric_in_one_pass(loaded: Loaded, sets: Sets, options: MeasureOptions) -> None:
    rows = METRICS.own
    names = [n for n in rows if metric_needs(n, options) and not rows[n].full_reference]
    records = score_sets(*sets, names, options)
    found = by_name(records)
    assert [r.metric for r in records][:3] == ["fid", "fid-infinity", "fid"]
    expected = {"kid", "kid-full", "is", "sfid", "sfid-infinity", "fd-dinov2", "clip-fd"}
    expected |= {
        "cmmd",
        "cmmd-unbiased",
        "clip-score",
        "r-precision",
        "precision-k3",
        "coverage-k5",
    }
    assert expected <= set(found)
    for record in records:
        assert record.state == "ok", record
        assert record.interval is not None or record.reason
        assert record.n == 40
        assert {"extractor", "extractor_hash", "samples_sha256", "versions"} <= set(
            record.fingerprint
        )
    # One pass: each extractor saw each of the 80 images once.
    assert {extractor.num_prepared for extractor in loaded.values()} == {80}


def test_intervals_say_how_they_were_made(
    loaded: Loaded, sets: Sets, options: MeasureOptions
) -> None:
    found = by_name(score_sets(*sets, ["fid", "clip-score"], options))
    infinity = found["fid-infinity"]
    assert infinity.interval is not None
    assert "jackknife over 20 groups" in infinity.interval.method
    assert [point["n"] for point in infinity.details["against_n"]] == [10, 20, 40]
    assert infinity.fingerprint["matched_ids"] == 40
    assert found["fid"].interval is None
    assert "fid-infinity" in found["fid"].reason
    assert found["fid"].standard_error is not None
    assert found["clip-score"].fingerprint["variant"] == "torchmetrics"


def test_the_images_that_push_the_distance_up_are_listed(
    loaded: Loaded, sets: Sets, options: MeasureOptions
) -> None:
    Image.new("RGB", (2, 4), "white").save(sets[0][11].path)  # type: ignore[arg-type]
    record = score_sets(*sets, ["fid"], replace(options, num_influential=3))[0]
    listed = record.details["most_influential"]
    assert listed[0]["index"] == 11
    assert listed[0]["file"] == "11.png"
    assert listed[0]["caption_id"] == "c11"
    assert len(listed) == 3


@pytest.mark.parametrize(
    ("metric", "change"),
    [
        ("clip-score", {"clip_variant": "hessel"}),
        ("clip-score", {"clip_variant": "raw"}),
        ("clip-score", {"clip_prefix": "eee "}),
        ("r-precision", {"distractors": 30}),
        ("kid", {"kid_subset_size": 10}),
        ("kid", {"seed": 1}),
        ("is", {"is_splits": 4}),
        ("fid", {"sample_crop": "center", "sample_size_px": 8}),
        ("fid", {"crop": "squash", "size_px": 8}),
    ],
)
def test_options_matter_and_are_in_the_fingerprint(
    loaded: Loaded, sets: Sets, options: MeasureOptions, metric: str, change: dict[str, Any]
) -> None:
    before = score_sets(*sets, [metric], options)[0]
    after = score_sets(*sets, [metric], replace(options, **change))[0]
    assert before.value != after.value
    assert dict(before.fingerprint) != dict(after.fingerprint)


def test_neither_order_nor_batches_nor_workers_matter(
    loaded: Loaded, sets: Sets, options: MeasureOptions
) -> None:
    samples, real = sets
    names = ["fid", "prdc", "clip-score", "r-precision"]
    first = score_sets(samples, real, names, options)
    other = replace(options, batch_size=3, workers=1, store=options.store.parent / "other")  # type: ignore[union-attr]
    second = score_sets(samples[::-1], real[::-1], names, other)
    for a, b in zip(first, second, strict=True):
        if a.metric != "fid-infinity":
            assert a.value == pytest.approx(b.value, rel=1e-9), a.metric
        assert a.fingerprint["samples_sha256"] == b.fingerprint["samples_sha256"]


class TestStates:
    def test_no_captions(self, loaded: Loaded, sets: Sets, options: MeasureOptions) -> None:
        samples = [replace(item, caption=None) for item in sets[0]]
        for record in score_sets(samples, sets[1], ["clip-score", "r-precision"], options):
            assert record.state == "not_applicable"
            assert record.reason == "not applicable: unconditional (the images have no captions)"

    def test_some_captions_missing(
        self, loaded: Loaded, sets: Sets, options: MeasureOptions
    ) -> None:
        samples = [replace(sets[0][0], caption=None), *sets[0][1:]]
        (record,) = score_sets(samples, None, ["clip-score"], options)
        assert "1 of 40 images have no caption" in record.reason

    def test_no_more_images_than_dimensions(
        self, loaded: Loaded, sets: Sets, options: MeasureOptions
    ) -> None:
        found = by_name(score_sets(sets[0][:4], sets[1], ["fid"], options))
        assert found["fid"].value is not None
        assert found["fid"].details["mark"] == "n <= d"
        assert found["fid"].standard_error is None
        assert found["fid-infinity"].state == "not_applicable"
        reason = found["fid-infinity"].reason
        assert "not estimable at n = 4 against 40 reference images in 4 dimensions" in reason

    def test_too_few_for_the_larger_k(
        self, loaded: Loaded, sets: Sets, options: MeasureOptions
    ) -> None:
        found = by_name(score_sets(sets[0][:5], sets[1], ["prdc"], options))
        assert found["precision-k3"].state == "ok"
        assert found["precision-k5"].state == "not_applicable"

    def test_too_few_captions_to_rank(
        self, loaded: Loaded, sets: Sets, options: MeasureOptions
    ) -> None:
        (record,) = score_sets(sets[0][:5], None, ["r-precision"], replace(options, distractors=99))
        assert record.state == "not_applicable"
        assert "ranks 100 captions" in record.reason

    def test_missing_weights_fail_one_metric_and_not_the_others(
        self, loaded: Loaded, sets: Sets, options: MeasureOptions, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def load_extractor(key: str, *rest: Any) -> Pixels:
            if key == "dinov2":
                raise MissingWeightsError("no weights of dinov2 here")
            return Pixels(key, rest[1])

        monkeypatch.setattr(score, "load_extractor", load_extractor)
        found = by_name(score_sets(*sets, ["fd-dinov2", "fid"], options))
        assert found["fd-dinov2"].state == "failed"
        assert found["fd-dinov2"].reason == "no weights of dinov2 here"
        assert found["fid"].state == "ok"
        with pytest.raises(MissingWeightsError):
            score_sets(*sets, ["fd-dinov2"], options)


class TestStatisticsFiles:
    def moments(self, sets: Sets) -> Moments:
        extractor = Pixels("inception", ("2048",))
        images = [np.asarray(Image.open(item.path)) for item in sets[1]]  # type: ignore[arg-type]
        return Moments.from_features(extractor.extract(images))

    def test_values_are_those_of_the_images(
        self, loaded: Loaded, sets: Sets, options: MeasureOptions, tmp_path: Path
    ) -> None:
        np.savez(tmp_path / "foreign.npz", mu=(m := self.moments(sets)).mean, sigma=m.covariance)
        reference = read_statistics(tmp_path / "foreign.npz")
        found = by_name(score_sets(sets[0], reference, ["fid", "kid", "prdc"], options))
        direct = by_name(score_sets(*sets, ["fid"], options))
        assert found["fid"].value == pytest.approx(direct["fid"].value, rel=1e-6)
        assert "samples only" in found["fid-infinity"].reason
        assert found["kid"].state == "not_applicable"
        assert found["precision"].state == "not_applicable"
        assert "reference_note" in found["fid"].fingerprint

    def test_adm_batches_bring_the_spatial_layer(
        self, loaded: Loaded, sets: Sets, options: MeasureOptions, tmp_path: Path
    ) -> None:
        m = self.moments(sets)
        arrays = {"mu": m.mean, "sigma": m.covariance, "mu_s": m.mean, "sigma_s": m.covariance}
        images = np.zeros((2, 4, 4, 3), np.uint8)
        np.savez(tmp_path / "adm.npz", arr_0=images, **arrays)  # type: ignore[arg-type]
        reference = read_statistics(tmp_path / "adm.npz")
        found = by_name(score_sets(sets[0], reference, ["fid", "sfid"], options))
        assert found["fid"].value == pytest.approx(found["sfid"].value)

    def test_adm_batches_bring_images_for_what_moments_cannot_give(
        self, loaded: Loaded, sets: Sets, options: MeasureOptions, tmp_path: Path
    ) -> None:
        m = self.moments(sets)
        # The images are not even read where moments are enough.
        np.savez(tmp_path / "odd.npz", arr_0=np.zeros(3), mu=m.mean, sigma=m.covariance)
        odd = read_statistics(tmp_path / "odd.npz")
        assert score_sets(sets[0], odd, ["fid", "is"], options)[0].state == "ok"
        with pytest.raises(DataError, match="arr_0 is float64"):
            score_sets(sets[0], odd, ["prdc"], options)
        images = np.stack([np.asarray(Image.open(item.path)) for item in sets[1][:25]])  # type: ignore[arg-type]
        np.savez(tmp_path / "adm.npz", arr_0=images, mu=m.mean, sigma=m.covariance)
        reference = read_statistics(tmp_path / "adm.npz")
        found = by_name(score_sets(sets[0], reference, ["fid", "prdc", "kid"], options))
        whole = by_name(score_sets(*sets, ["fid"], options))
        of_images = by_name(score_sets(sets[0], sets[1][:25], ["prdc", "kid"], options))
        assert found["fid"].value == pytest.approx(whole["fid"].value, rel=1e-6)
        assert found["recall-k5"].value == of_images["recall-k5"].value
        assert found["recall-k5"].interval is not None
        assert found["kid"].value == of_images["kid"].value
        assert found["recall-k5"].fingerprint["num_reference"] == 25

    def test_features_of_clean_fid_serve_kid(
        self, loaded: Loaded, sets: Sets, options: MeasureOptions, tmp_path: Path
    ) -> None:
        extractor = Pixels("inception", ("2048",))
        images = [np.asarray(Image.open(item.path)) for item in sets[1]]  # type: ignore[arg-type]
        np.savez(tmp_path / "kid.npz", feats=extractor.extract(images))
        found = score_sets(sets[0], read_statistics(tmp_path / "kid.npz"), ["kid"], options)
        assert found[0].value == pytest.approx(score_sets(*sets, ["kid"], options)[0].value)

    def test_own_files_name_their_extractor_and_others_are_refused(
        self, loaded: Loaded, sets: Sets, options: MeasureOptions, tmp_path: Path
    ) -> None:
        path = tmp_path / "own.npz"
        identity = {**Pixels("inception", ("2048",)).identity, "layer": "2048"}
        write_statistics(path, self.moments(sets), identity)
        assert Moments.load(path).n == 40
        assert is_statistics_file(path)
        assert score_sets(sets[0], read_statistics(path), ["fid"], options)[0].state == "ok"
        write_statistics(path, self.moments(sets), {**identity, "resize": "clean"})
        with pytest.raises(DataError, match=r"own\.npz: made with resize 'clean'"):
            score_sets(sets[0], read_statistics(path), ["fid"], options)

    def test_other_dimensions_are_refused(
        self, loaded: Loaded, sets: Sets, options: MeasureOptions, tmp_path: Path
    ) -> None:
        np.savez(tmp_path / "wide.npz", mu=np.zeros(8), sigma=np.eye(8))
        with pytest.raises(DataError, match="4 and 8 dimensions"):
            score_sets(sets[0], read_statistics(tmp_path / "wide.npz"), ["fid"], options)

    @pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04"])
    def test_broken_files(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "bad.npz").write_bytes(content)
        assert not is_statistics_file(tmp_path / "bad.npz")
        with pytest.raises(DataError, match=r"bad\.npz: not a statistics file"):
            read_statistics(tmp_path / "bad.npz")

    def test_a_file_without_statistics(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "other.npz", images=np.zeros(3))
        with pytest.raises(DataError, match=r"found \['images'\], expected mu and sigma"):
            read_statistics(tmp_path / "other.npz")


class TestBadInput:
    def test_unknown_metric(self, sets: Sets, options: MeasureOptions) -> None:
        with pytest.raises(UnknownNameError, match="'fdi'; did you mean 'fd'"):
            score_sets(*sets, ["fdi"], options)

    def test_no_samples_no_reference(
        self, loaded: Loaded, sets: Sets, options: MeasureOptions
    ) -> None:
        with pytest.raises(NotEnoughImagesError, match="no samples"):
            score_sets([], sets[1], ["fid"], options)
        with pytest.raises(NotEnoughImagesError, match="reference has no images"):
            score_sets(sets[0], [], ["fid"], options)
        with pytest.raises(ConfigError, match="fid needs a reference"):
            score_sets(sets[0], None, ["fid"], options)

    def test_one_image(self, loaded: Loaded, sets: Sets, options: MeasureOptions) -> None:
        for metric in ("fid", "kid", "prdc"):
            with pytest.raises(NotEnoughImagesError, match="samples: 1 image"):
                score_sets(sets[0][:1], sets[1], [metric], options)

    def test_fid_of_other_features_is_refused(self, sets: Sets, options: MeasureOptions) -> None:
        with pytest.raises(ConfigError, match="or use fd"):
            score_sets(*sets, ["fid"], replace(options, features="shapes-clip"))

    def test_fd_is_called_by_its_features(
        self, loaded: Loaded, sets: Sets, options: MeasureOptions
    ) -> None:
        records = score_sets(*sets, ["fd"], replace(options, features="shapes-clip"))
        assert [r.metric for r in records] == ["fd", "fd-infinity"]
        assert records[0].details["label"] == "FD (shapes-clip)"
        records = score_sets(*sets, ["fd"], options)
        assert [r.metric for r in records] == ["fid", "fid-infinity"]

    def test_a_bad_image_is_named_or_skipped_and_counted(
        self, loaded: Loaded, sets: Sets, options: MeasureOptions
    ) -> None:
        Path(str(sets[0][3].path)).write_bytes(b"no image")
        with pytest.raises(DataError, match=r"03\.png"):
            score_sets(*sets, ["fid"], options)
        record = score_sets(*sets, ["fid"], replace(options, skip_bad=True))[0]
        assert record.n == 39
        assert record.details["num_skipped"] == 1
        assert record.fingerprint["skipped_samples"] == 1


def test_real_inception_weights_of_another_file_are_marked(
    picture_folders: tuple[Path, Path], inception_weights: Path, tmp_path: Path
) -> None:
    fake, real = (image_items(folder) for folder in picture_folders)
    options = MeasureOptions(
        inception_weights=inception_weights, inception_layer="64", store=tmp_path / "store"
    )
    record = score_sets(fake, real, ["fid"], options)[0]
    assert record.metric == "fid"
    assert record.fingerprint["extractor"]["weights_note"] == "weights not the 2015 ones"
