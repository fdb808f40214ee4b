"""Two models against one reference: paired differences as records."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from statsmodels.stats.multitest import multipletests

from evalkit.core.errors import ConfigError
from evalkit.core.results import ResultRecord
from evalkit.features.sources import ImageItem, image_items
from evalkit.metrics import score
from evalkit.metrics.comparison import compare_sets, holm_corrected, said_against_table
from evalkit.metrics.score import score_sets, summarise_set
from evalkit.metrics.statistics_files import read_statistics, write_statistics
from evalkit.options import MeasureOptions
from tests.evalkit.metrics.test_score import Pixels

N = 40


@pytest.fixture(autouse=True)
def pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    def load_extractor(key: str, options: Any, layers: Any = (), progress: Any = None) -> Pixels:
        return Pixels(key, layers)

    monkeypatch.setattr(score, "load_extractor", load_extractor)


@pytest.fixture
def models(tmp_path: Path) -> dict[str, list[ImageItem]]:
    """A good model, one that is too dark, and the reference; all of the same captions."""
    rng = np.random.default_rng(0)
    shared = rng.integers(0, 200, (N, 4, 2, 3))
    found = {}
    for name, scale in (("good", 0.95), ("dark", 0.5), ("real", 1.0)):
        (tmp_path / name).mkdir()
        for i in range(N):
            pixels = (shared[i] + rng.integers(0, 55, (4, 2, 3))) * scale
            Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / name / f"{i:02}.png")
        found[name] = [
            replace(item, image_id=str(i), caption_id=f"c{i}", caption=f"scene {i} {'e' * (i % 5)}")
            for i, item in enumerate(image_items(tmp_path / name))
        ]
    return found


@pytest.fixture
def options(tmp_path: Path) -> MeasureOptions:
    return MeasureOptions(store=tmp_path / "store")


def test_the_darker_model_is_further_away(
    models: dict[str, list[ImageItem]], options: MeasureOptions
) -> None:
    good, dark, real = models["good"], models["dark"], models["real"]
    (record,) = compare_sets(good, dark, real, ["fid"], options)
    assert record.metric == "fid-difference"
    assert record.value is not None
    assert record.value < 0
    assert record.interval is not None
    assert record.interval.high < 0
    assert record.details["p_value"] < 1e-3
    plug_in = [score_sets(x, real, ["fid"], options)[0].value for x in (good, dark)]
    difference = record.details["plug_in_difference"]
    assert difference == pytest.approx(plug_in[0] - plug_in[1])  # type: ignore[operator]
    (swapped,) = compare_sets(dark, good, real, ["fid"], options)
    assert swapped.value == pytest.approx(-record.value)


def test_clip_scores_are_paired_by_caption(
    models: dict[str, list[ImageItem]], options: MeasureOptions
) -> None:
    (record,) = compare_sets(models["good"], models["dark"][::-1], None, ["clip-score"], options)
    scores = [
        score_sets(models[name], None, ["clip-score"], options)[0].value
        for name in ("good", "dark")
    ]
    assert record.value == pytest.approx(scores[0] - scores[1])  # type: ignore[operator]
    assert record.n == N


@pytest.mark.parametrize("metric", ["kid", "cmmd"])
def test_kernel_distances_pair_their_captions(
    models: dict[str, list[ImageItem]], options: MeasureOptions, metric: str
) -> None:
    good, dark, real = models["good"], models["dark"], models["real"]
    (record,) = compare_sets(good, dark, real, [metric], options)
    assert record.value is not None
    assert record.value < 0
    assert record.details["shared_ids"] == N
    values = [score_sets(x, real, [metric], options)[1].value for x in (good, dark)]
    assert record.value == pytest.approx(values[0] - values[1])  # type: ignore[operator]
    (swapped,) = compare_sets(dark, good, real, [metric], options)
    assert swapped.value == pytest.approx(-record.value)
    assert swapped.standard_error == pytest.approx(record.standard_error)
    # A set against itself differs by nothing, and surely so: every influence cancels.
    (itself,) = compare_sets(good, good, real, [metric], options)
    assert itself.value == 0
    assert itself.standard_error == pytest.approx(0, abs=1e-12)
    strangers = [replace(item, image_id=f"x{i}", caption_id=f"x{i}") for i, item in enumerate(dark)]
    (apart,) = compare_sets(good, strangers, real, [metric], options)
    assert apart.details["shared_ids"] == 0
    assert apart.standard_error is not None
    assert record.standard_error is not None
    assert apart.standard_error > record.standard_error


def test_r_precision_is_compared_by_caption(
    models: dict[str, list[ImageItem]], options: MeasureOptions
) -> None:
    options = replace(options, distractors=5)
    (record,) = compare_sets(models["good"], models["dark"], None, ["r-precision"], options)
    values = [
        score_sets(models[name], None, ["r-precision"], options)[0].value
        for name in ("good", "dark")
    ]
    assert record.value == pytest.approx(values[0] - values[1])  # type: ignore[operator]
    assert record.n == N


def test_states(models: dict[str, list[ImageItem]], options: MeasureOptions) -> None:
    strangers = [replace(item, caption_id=f"x{i}") for i, item in enumerate(models["dark"])]
    (record,) = compare_sets(models["good"], strangers, None, ["clip-score"], options)
    assert record.state == "not_applicable"
    assert "share no caption ids" in record.reason
    (record,) = compare_sets(models["good"][:4], models["dark"], models["real"], ["fid"], options)
    assert record.state == "not_applicable"
    assert "not estimable" in record.reason


def test_a_metric_without_a_paired_difference(
    models: dict[str, list[ImageItem]], options: MeasureOptions
) -> None:
    metric = "images-per-second"
    with pytest.raises(ConfigError, match=f"'{metric}' has no paired difference"):
        compare_sets(models["good"], models["dark"], models["real"], [metric], options)


SCORES = ("is", "prdc")


@pytest.mark.parametrize("metric", SCORES)
def test_scores_of_whole_sets_agree_with_the_table(
    models: dict[str, list[ImageItem]], options: MeasureOptions, metric: str
) -> None:
    good, dark, real = models["good"], models["dark"], models["real"]
    options = replace(options, is_splits=2)
    found = compare_sets(good, dark, real, [metric], options)
    values = [{r.metric: r for r in score_sets(x, real, [metric], options)} for x in (good, dark)]
    assert {r.metric for r in found} == {f"{name}-difference" for name in values[0]}
    for record in found:
        table = [one[record.metric.removesuffix("-difference")].value for one in values]
        assert record.value == pytest.approx(table[0] - table[1])  # type: ignore[operator]
        assert record.interval is not None
        assert record.interval.low < record.value < record.interval.high  # type: ignore[operator]
        assert record.details["shared_ids"] == record.details["shared_captions"] == N
        assert "compared_on" not in record.details
        assert 0 <= record.details["p_value"] <= 1
    swapped = {r.metric: r for r in compare_sets(dark, good, real, [metric], options)}
    for record in found:
        other = swapped[record.metric]
        assert other.value == pytest.approx(-record.value)  # type: ignore[operator]
        assert other.standard_error == pytest.approx(record.standard_error)


def test_precision_of_the_darker_model_is_lower(
    models: dict[str, list[ImageItem]], options: MeasureOptions
) -> None:
    records = compare_sets(models["good"], models["dark"], models["real"], ["prdc"], options)
    found = {record.metric: record for record in records}
    for name in ("coverage-k3-difference", "coverage-k5-difference"):
        assert found[name].value > 0  # type: ignore[operator]
        assert found[name].details["p_value"] < 0.05


@pytest.mark.parametrize("metric", ["kid", *SCORES])
def test_sets_of_other_captions_are_compared_on_those_they_share(
    models: dict[str, list[ImageItem]], options: MeasureOptions, metric: str
) -> None:
    """The result is that of the shared captions alone, and says so."""
    good, dark, real = models["good"][:30], models["dark"][10:], models["real"]
    options = replace(options, is_splits=2)
    found = compare_sets(good, dark, real, [metric], options)
    alone = compare_sets(good[10:], dark[:20], real, [metric], options)
    for record, expected in zip(found, alone, strict=True):
        assert record.value == pytest.approx(expected.value)
        assert record.details["shared_captions"] == 20
        said = "compared on the 20 captions that both models have (20 of 30 and 20 of 30 images)"
        assert record.details["compared_on"] == said
        assert "compared_on" not in expected.details


def test_several_samples_of_a_caption_are_compared_as_many_to_as_many(
    models: dict[str, list[ImageItem]], options: MeasureOptions
) -> None:
    """The second model has two images of each of five captions; recall depends on their number."""
    good, dark, real = models["good"], models["dark"], models["real"]
    more = [*dark, *(replace(dark[i], caption_id=f"c{i + 5}", image_id=None) for i in range(5))]
    found = compare_sets(good, more, real, ["prdc"], options)
    expected = compare_sets(good, dark, real, ["prdc"], options)
    for record, one in zip(found, expected, strict=True):
        assert record.value == one.value
        assert "(40 of 40 and 40 of 45 images)" in record.details["compared_on"]


def test_strangers_are_compared_on_as_many_images(
    models: dict[str, list[ImageItem]], options: MeasureOptions
) -> None:
    dark = [
        replace(item, caption_id=f"x{i}", image_id=None) for i, item in enumerate(models["dark"])
    ]
    records = compare_sets(models["good"], dark[:30], models["real"], ["prdc"], options)
    for record in records:
        assert record.details["shared_captions"] == 0
        assert record.details["compared_on"] == (
            "compared on as many images of both (30 of 40 and 30 of 30), "
            "since it depends on their number"
        )


def test_too_few_images_for_a_jackknife_are_said(
    models: dict[str, list[ImageItem]], options: MeasureOptions
) -> None:
    few = [models[name][:5] for name in ("good", "dark", "real")]
    records = {r.metric: r for r in compare_sets(*few, ["prdc"], options)}
    record = records["recall-k5-difference"]
    assert record.state == "not_applicable"
    assert "4 images are left without a group of them, but k = 5 needs more" in record.reason


def test_models_that_never_differ_have_an_interval_with_a_width(
    models: dict[str, list[ImageItem]], options: MeasureOptions
) -> None:
    good, real = models["good"], models["real"]
    options = replace(options, distractors=5)
    for record in compare_sets(good, good, real, ["prdc", "r-precision"], options):
        assert (record.value, record.details["p_value"]) == (0.0, 1.0)
        assert record.interval is not None
        assert record.interval.low < 0 < record.interval.high


def test_statistics_of_a_set_round_trip(
    models: dict[str, list[ImageItem]], options: MeasureOptions, tmp_path: Path
) -> None:
    found = summarise_set(models["real"], options, spatial=True)
    write_statistics(tmp_path / "real.npz", found.moments, found.identity, spatial=found.spatial)
    with np.load(tmp_path / "real.npz") as stored:
        assert {"mu", "sigma", "mu_s", "sigma_s"} <= set(stored.files)
    reference = read_statistics(tmp_path / "real.npz")
    records = score_sets(models["good"], reference, ["fid", "sfid"], options)
    direct = score_sets(models["good"], models["real"], ["fid"], options)
    assert records[0].value == pytest.approx(direct[0].value)
    assert records[2].value == pytest.approx(direct[0].value)


class TestHolm:
    def test_by_hand(self) -> None:
        """0.01, 0.04, 0.03 of three tests: 3 * 0.01, then 2 * 0.03, and 0.04 is no smaller."""
        p_values = (0.01, None, 0.04, 0.03)
        found = holm_corrected([difference(p_value=p) for p in p_values])
        assert [one.details.get("p_holm") for one in found] == pytest.approx(
            [0.03, None, 0.06, 0.06]
        )
        assert [one.details.get("num_tests") for one in found] == [3, None, 3, 3]

    def test_equals_statsmodels(self) -> None:
        p_values = np.random.default_rng(0).random(20) ** 3
        found = holm_corrected([difference(p_value=p) for p in p_values])
        expected = multipletests(p_values, method="holm")[1]
        np.testing.assert_allclose([one.details["p_holm"] for one in found], expected)


def difference(value: float = 0.3, **details: Any) -> ResultRecord:
    return ResultRecord(
        metric="kid-full-difference", value=value, n=5, direction="lower", details=details
    )


def test_a_difference_that_is_not_that_of_the_table_says_why() -> None:
    tables = [[replace(difference(value), metric="kid-full")] for value in (0.5, 0.2 + 1e-12)]
    (same,) = said_against_table([difference(0.3)], *tables)
    assert same == difference(0.3)
    (other,) = said_against_table([difference(0.1, compared_on="on 5 of 9")], *tables)
    assert other.details["table_difference"] == pytest.approx(0.3)
    assert other.reason == "not that of the two values: on 5 of 9"
