"""Metrics inside a training: images of any form, a fixed reference, ranks, one pass, intervals."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.multiprocessing
from torch_metrics import (
    CAPTIONS,
    FAKE,
    IN_ORDER,
    KINDS,
    OF_ANY_ORDER,
    REAL,
    SAME,
    WITH_REFERENCE,
    Counting,
    N,
    Rows,
    collection,
    feed,
    references,
    run_rank,
    values,
)

from evalkit.core.errors import ConfigError, DataError, MissingDataError, NotEnoughImagesError
from evalkit.core.results import ResultRecord
from evalkit.metrics import torch_modules as modules
from evalkit.metrics.clip_score import clip_score
from evalkit.metrics.cmmd import cmmd
from evalkit.metrics.frechet.interval import frechet_interval
from evalkit.metrics.frechet.moments import Moments
from evalkit.metrics.inception_score import inception_score
from evalkit.metrics.kid import kid
from evalkit.metrics.prdc import prdc
from evalkit.metrics.r_precision import caption_key, r_precision
from evalkit.metrics.statistics_files import write_statistics
from evalkit.metrics.torch_modules.batches import check_range


def chw(images: np.ndarray) -> torch.Tensor:
    """Images x 3 x height x width, as a training has them."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()


def pictures(seed: int) -> np.ndarray:
    """Images whose sides are not 3 px."""
    return np.random.default_rng(seed).integers(0, 256, (N, 4, 6, 3)).astype(np.uint8)


class TestImages:
    """The forms in which a training has its images."""

    @pytest.mark.parametrize("name", KINDS)
    def test_channels_first_and_last_are_the_same_images(self, name: str) -> None:
        first, last, ranged = (KINDS[name](Rows(), **o) for o in ({}, {}, {"value_range": (0, 1)}))
        fake, real = pictures(0), pictures(1)
        for metric, given in (
            (first, [chw(fake), chw(real)]),
            (last, [fake, list(real)]),
            (ranged, [chw(fake).float() / 255, (chw(real) / 255).double().numpy()]),
        ):
            more = (CAPTIONS,) if name in ("clip", "r") else ()
            metric.update(given[0], *more)
            if name in WITH_REFERENCE:
                metric.update(given[1], real=True)
        assert values(first) == values(last) == values(ranged)

    @pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
    @pytest.mark.parametrize("value_range", [(0, 1), (-1, 1), [-1.0, 1.0]])
    def test_every_level_survives_floats(self, dtype: torch.dtype, value_range: Any) -> None:
        levels = np.arange(256, dtype=np.uint8).repeat(3).reshape(2, 16, 8, 3)
        unit = chw(levels).double() / 255
        floats = (unit if value_range[0] == 0 else unit * 2 - 1).to(dtype)
        found = modules.as_uint8_images(floats, tuple(value_range))
        np.testing.assert_array_equal(np.stack(found), levels)

    def test_bfloat16_is_rounded_to_the_nearest_level(self) -> None:
        floats = torch.full((1, 3, 4, 4), 0.5).to(torch.bfloat16)
        assert int(modules.as_uint8_images(floats, (0, 1))[0].max()) == 128

    def test_a_little_outside_is_clipped_and_more_is_refused(self) -> None:
        batch = torch.full((1, 3, 4, 4), 1.004)
        assert int(modules.as_uint8_images(batch, (0, 1))[0].min()) == 255
        for value in (-0.3, 1.5, 255.0, float("nan"), float("inf")):
            with pytest.raises(DataError, match=r"outside value_range \(0, 1\)\. Clamp"):
                modules.as_uint8_images(batch * 0 + value, (0, 1))

    def test_floats_without_a_range_are_refused_in_one_line(self) -> None:
        with pytest.raises(DataError, match="ambiguous") as raised:
            modules.FrechetDistance(Rows()).update(torch.rand(2, 3, 8, 8))
        assert "\n" not in str(raised.value)

    @pytest.mark.parametrize("value_range", [(0, 255), (1, 0), "01", 1.0, (0, 1, 2)])
    def test_another_range_is_refused(self, value_range: Any) -> None:
        with pytest.raises(ConfigError, match="expected \\(0, 1\\) or \\(-1, 1\\)"):
            check_range(value_range)

    @pytest.mark.parametrize(
        ("shape", "said"),
        [
            ((2, 3, 8, 3), "may be first or last"),
            ((2, 1, 8, 8), "expected images x 3"),
            ((2, 8, 8, 4), "expected images x 3"),
            ((3, 8, 8), "expected images x 3"),
        ],
    )
    def test_shapes_that_say_too_little(self, shape: tuple[int, ...], said: str) -> None:
        with pytest.raises(DataError, match=said):
            modules.as_uint8_images(torch.zeros(shape, dtype=torch.uint8))

    def test_other_types_are_refused(self) -> None:
        with pytest.raises(DataError, match="Images are int64, expected uint8"):
            modules.as_uint8_images(torch.zeros(2, 3, 8, 8, dtype=torch.int64), (0, 1))

    @pytest.mark.parametrize("name", KINDS)
    def test_an_empty_batch_adds_nothing(self, name: str) -> None:
        with_empty, without = KINDS[name](Rows()), KINDS[name](Rows())
        for empty in (torch.zeros(0, 3, 4, 3, dtype=torch.uint8).permute(0, 2, 3, 1), []):
            with_empty.update(empty, *(([],) if name in ("clip", "r") else ()))
        for metric in (with_empty, without):
            feed(name, metric)
        assert values(with_empty) == values(without)


class TestReference:
    """A reference that is known before training."""

    @pytest.mark.parametrize("name", WITH_REFERENCE)
    def test_reset_keeps_it(self, name: str) -> None:
        fixed, collected = KINDS[name](Rows(), reference=references()[name]), KINDS[name](Rows())
        feed(name, collected)
        for _ in range(2):
            feed(name, fixed, fixed=True)
            assert float(first(fixed.compute())) == pytest.approx(
                float(first(collected.compute())), rel=1e-12
            )
            fixed.reset()
            with pytest.raises(NotEnoughImagesError):
                fixed.compute()

    def test_a_statistics_file(self, tmp_path: Path) -> None:
        rows, path = Rows(), tmp_path / "reference.npz"
        write_statistics(
            path, Moments.from_features(rows.extract(REAL)), {**rows.identity, "layer": "main"}
        )
        metric = modules.FrechetDistance(rows, reference=path)
        feed("frechet", metric, fixed=True)
        against = frechet_interval(rows.extract(FAKE), Moments.from_features(rows.extract(REAL)))
        assert float(metric.compute()) == pytest.approx(against.value, rel=1e-12)
        record = metric.records()[1]
        assert record.value == pytest.approx(against.corrected, rel=1e-9)
        assert record.fingerprint["reference_statistics"] == "reference.npz"
        assert len(record.fingerprint["reference_sha256"]) == 64
        restored = pickle.loads(pickle.dumps(metric))
        assert float(restored.compute()) == float(metric.compute())

    def test_a_file_that_does_not_fit_is_refused_at_construction(self, tmp_path: Path) -> None:
        rows, path = Rows(), tmp_path / "reference.npz"
        moments = Moments.from_features(rows.extract(REAL))
        with pytest.raises(MissingDataError, match="no such file"):
            modules.FrechetDistance(rows, reference=path)
        write_statistics(path, moments, {"extractor": "another", "layer": "main"})
        with pytest.raises(DataError, match="made with extractor 'another'"):
            modules.FrechetDistance(rows, reference=str(path))
        write_statistics(path, moments, {**rows.identity, "layer": "main"})
        with pytest.raises(DataError, match="KID needs the reference's features"):
            modules.KernelInceptionDistance(rows, reference=path)
        with pytest.raises(DataError, match="4 and 7 dimensions"):
            modules.FrechetDistance(rows, reference=Moments(7))

    @pytest.mark.parametrize("name", WITH_REFERENCE)
    def test_it_takes_no_more_images(self, name: str) -> None:
        metric = KINDS[name](Rows(), reference=references()[name])
        with pytest.raises(ConfigError, match="takes no images with real=True"):
            metric.update(REAL, real=True)


def first(found: Any) -> Any:
    return next(iter(found.values())) if isinstance(found, dict) else found


class TestIntervals:
    """Records have the intervals of the metrics' functions."""

    def test_they_are_those_of_the_functions(self) -> None:
        rows = Rows()
        x, y, t = rows.extract(FAKE), rows.extract(REAL), rows.encode_text(CAPTIONS)
        keys = [caption_key(caption) for caption in CAPTIONS]
        found = {name: records_of(name) for name in KINDS}
        corrected = frechet_interval(x, Moments.from_features(y))
        kernel, embedded = kid(x, y, subsets=4, subset_size=20), cmmd(x, y)
        expected: dict[str, tuple[float | None, float | None, float | None]] = {
            "fd-infinity": (corrected.corrected, corrected.low, corrected.high),
            "kid": ends(kernel.value, kernel.interval_at(0.95)),
            "kid-full": ends(kernel.full, kernel.full_interval_at(0.95)),
            "cmmd-unbiased": ends(embedded.unbiased, embedded.interval_at(0.95)),
            "is": ends((score := inception_score(x, splits=2)).value, score.interval),
            "clip-score": ends((clip := clip_score(x, t)).value, clip.interval.interval),
            "r-precision": ends(
                (rank := r_precision(x, t, keys, distractors=5)).value, rank.interval
            ),
        }
        for name, score in prdc(x, y, k=3).items():
            expected[f"{name}-k3"] = (score.value, score.low, score.high)
        records = {one.metric: one for several in found.values() for one in several}
        for name, (value, low, high) in expected.items():
            record = records[name]
            assert record.interval is not None, name
            assert record.value == pytest.approx(value, rel=1e-12), name
            assert (record.interval.low, record.interval.high) == pytest.approx((low, high)), name
            assert record.n == N
            assert record.fingerprint["extractor"]["name"] == "rows"

    def test_captions_are_draws(self) -> None:
        """Four images of a caption are one draw, as in `evalkit score`."""
        metric = modules.ClipScore(Rows())
        texts = [CAPTIONS[i // 4] for i in range(N)]
        metric.update(FAKE, texts)
        expected = clip_score(Rows().extract(FAKE), Rows().encode_text(texts), ids=texts)
        record = metric.records()[0]
        assert record.standard_error == pytest.approx(expected.interval.standard_error)
        assert record.interval is not None
        assert "6 ids as draws" in record.interval.method

    def test_level_and_seed_matter(self) -> None:
        wide, narrow, other = (
            records_of("frechet", **o)[1] for o in ({"level": 0.99}, {"level": 0.8}, {"seed": 1})
        )
        assert wide.interval is not None
        assert narrow.interval is not None
        assert wide.interval.low < narrow.interval.low
        assert other.value != wide.value == narrow.value
        with pytest.raises(ConfigError, match=r"95 % as 0\.95"):
            modules.ClipScore(Rows(), level=95)

    def test_without_features_there_is_a_reason_and_constant_memory(self) -> None:
        metric = modules.FrechetDistance(Rows(), interval=False)
        feed("frechet", metric)
        feed("frechet", metric)
        assert sum(state.numel() for state in metric.metric_state.values()) == 2 * 25
        (record,) = metric.records()
        assert record.interval is None
        assert "interval=False" in record.reason

    def test_too_few_images_are_an_error_and_leave_the_state(self) -> None:
        metric = modules.KernelInceptionDistance(Rows())
        metric.update(FAKE[:1])
        for ask in (metric.compute, metric.records):
            with pytest.raises(NotEnoughImagesError):
                ask()
        metric.update(FAKE[1:])
        assert len(metric._array("fake")) == N


def records_of(name: str, **options: Any) -> list[ResultRecord]:
    metric = KINDS[name](Rows(), **options)
    feed(name, metric)
    found: list[ResultRecord] = metric.records()
    return found


def ends(value: float, interval: Any) -> tuple[float, float, float]:
    return value, interval.low, interval.high


class TestOnePass:
    """Several metrics read each batch once."""

    def test_each_batch_is_encoded_once_and_each_metric_has_its_value(self) -> None:
        counting = Counting()
        together = collection(counting)
        alone = {name: kind(Counting()) for name, kind in KINDS.items()}
        for start in range(0, N, 8):
            part = slice(start, start + 8)
            together.update(FAKE[part], CAPTIONS[part])
            together.update(REAL[part], real=True)
        assert counting.passes == 2 * 3
        assert counting.texts == N
        for name, metric in alone.items():
            feed(name, metric)
        found = together.compute()
        for name in ("frechet", "kid", "cmmd", "is", "clip", "r"):
            assert float(found[name]) == pytest.approx(float(alone[name].compute()), rel=SAME)
        assert float(found["sfid"]) == pytest.approx(4 * float(found["frechet"]), rel=SAME)
        assert float(found["coverage"]) == float(alone["prdc"].compute()["coverage"])
        assert {"fd-infinity", "kid-full", "clip-score"} <= {r.metric for r in together.records()}

    def test_reference_images_never_count_as_samples(self) -> None:
        together = collection(Counting())
        together.update(REAL, real=True)
        assert not len(together["is"]._array("logits"))
        assert not len(together["clip"]._array("images"))
        assert len(together["kid"]._array("real")) == N

    def test_mistakes_are_one_line(self) -> None:
        from torchmetrics import MeanMetric

        rows = Rows()
        fixed = modules.FrechetDistance(rows, reference=references()["frechet"])
        with pytest.raises(ConfigError, match="ClipScore needs the prompts"):
            modules.MetricsInOnePass([fixed, modules.ClipScore(rows)]).update(FAKE)
        with pytest.raises(ConfigError, match="No metric takes images with real=True"):
            modules.MetricsInOnePass([fixed]).update(REAL, real=True)
        with pytest.raises(ConfigError, match="MeanMetric is none of evalkit's"):
            modules.MetricsInOnePass([MeanMetric()])
        with pytest.raises(ConfigError, match="different ranges"):
            modules.MetricsInOnePass(
                {
                    "a": modules.ClipScore(rows, value_range=(0, 1)),
                    "b": modules.InceptionScore(rows, value_range=(-1, 1)),
                }
            )
        with pytest.raises(ConfigError, match="has no layer 'spatial'"):
            modules.FrechetDistance(rows, layer="spatial")
        with pytest.raises(ConfigError, match="Call update for each batch"):
            modules.MetricsInOnePass([fixed])(FAKE)

    def test_captions_that_do_not_fit_add_nothing_anywhere(self) -> None:
        together = collection(Counting())
        with pytest.raises(DataError, match="give one caption per image"):
            together.update(FAKE, CAPTIONS[:-1])
        assert not any(len(together[name]._array("fake")) for name in ("kid", "cmmd", "prdc"))

    def test_the_range_is_that_of_the_metrics(self) -> None:
        rows = Rows()
        named = modules.MetricsInOnePass(
            [modules.FrechetDistance(rows, value_range=(0, 1)), modules.InceptionScore(rows)]
        )
        named.update(chw(FAKE[:, :, :2]).float() / 255)
        np.testing.assert_array_equal(
            named["InceptionScore"]._array("logits"), rows.extract(FAKE[:, :, :2])
        )


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What two processes found, connected by gloo."""
    folder = tmp_path_factory.mktemp("ranks")
    torch.multiprocessing.spawn(run_rank, args=(str(folder),), nprocs=2)
    found = [torch.load(folder / f"rank{rank}.pt", weights_only=True) for rank in range(2)]
    for one in found:
        assert "error" not in one, one["error"]
    return found


@pytest.mark.parametrize("shards", IN_ORDER)
@pytest.mark.parametrize("name", KINDS)
def test_two_ranks_give_the_values_of_one(
    ranks: list[dict[str, Any]], name: str, shards: str
) -> None:
    """Values, intervals and all, with and without a fixed reference."""
    for fixed in (False, True) if name in WITH_REFERENCE else (False,):
        alone = KINDS[name](Rows(), **({"reference": references()[name]} if fixed else {}))
        feed(name, alone, fixed=fixed)
        expected = values(alone)
        assert len(expected) > 1
        for found in ranks:
            assert found[f"{shards}, {name}, {fixed}"] == pytest.approx(expected, rel=SAME)
            assert found[f"{shards}, {name}, {fixed}, again"] == pytest.approx(expected, rel=SAME)


@pytest.mark.parametrize("name", OF_ANY_ORDER)
def test_numbers_that_no_draw_decides_are_the_same_in_any_order(
    ranks: list[dict[str, Any]], name: str
) -> None:
    alone = KINDS[name](Rows())
    feed(name, alone)
    expected = {number: values(alone)[number] for number in OF_ANY_ORDER[name]}
    for found in ranks:
        shared = found[f"interleaved, {name}, False"]
        assert {number: shared[number] for number in expected} == pytest.approx(expected, rel=SAME)


@pytest.mark.parametrize("shards", IN_ORDER)
def test_a_shared_pass_of_two_ranks_gives_the_values_of_one(
    ranks: list[dict[str, Any]], shards: str
) -> None:
    alone = collection(Counting())
    alone.update(FAKE, CAPTIONS)
    alone.update(REAL, real=True)
    expected = {name: float(value) for name, value in alone.compute().items()}
    for found in ranks:
        assert found[f"{shards}, together"] == pytest.approx(expected, rel=SAME)


def test_an_error_after_gathering_gives_each_rank_its_own_state(
    ranks: list[dict[str, Any]],
) -> None:
    assert [found["own state"]["rows"] for found in ranks] == [1, 0]
