"""Metrics of runs: what a run shows of its scenes, how fast it was made, and whose is better."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import t as student

from evalkit.core.errors import DataError, RunFolderError
from evalkit.core.pixels import read_rgb
from evalkit.core.results import ResultRecord
from evalkit.core.run import Outcome, RunFolder, WorkItem
from evalkit.datasets.base import Caption, CaptionedImages, hash_captions
from evalkit.datasets.shapes.dataset import load_shapes, write_shapes
from evalkit.features.sources import ImageItem
from evalkit.measurement import run_items
from evalkit.metrics import source_run
from evalkit.metrics.comparison import paired_differences
from evalkit.metrics.paired_rates import paired_rate_difference
from evalkit.metrics.score import Scorer, score_sets
from evalkit.metrics.source_run import SourceRun
from evalkit.options import MeasureOptions

N = 24


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> CaptionedImages:
    return load_shapes(write_shapes(tmp_path_factory.mktemp("scenes"), 0, N), num_images=N)


@pytest.fixture(autouse=True)
def opened(monkeypatch: pytest.MonkeyPatch, scenes: CaptionedImages) -> None:
    monkeypatch.setattr(source_run, "open_dataset", lambda name: scenes)


def made(
    folder: Path, scenes: CaptionedImages, wrong: int = 0, unmade: int = 0, **config: object
) -> RunFolder:
    """A run that shows its scenes, but for the first `wrong`, which are gray, and the unmade."""
    captions = list({caption.image_id: caption for caption in scenes.captions}.values())
    dataset = {"name": "shapes", "n": N, "captions_sha256": hash_captions(captions)}
    run = RunFolder.create_or_resume(
        folder, {"conditioning": "text", "dataset": dataset, **config}, {}
    )
    items = [
        WorkItem(index=i, caption_id=c.id, sample_index=0, seed=i, prompt=c.text)
        for i, c in enumerate(captions)
    ]
    pixels = [read_rgb(scenes.image_path(c.image_id)) for c in captions]
    gray = np.full_like(pixels[0], 128)
    outcomes = [
        Outcome(pixels=None, status="refused", reason="no")
        if i >= N - unmade
        else Outcome(pixels=gray if i < wrong else image)
        for i, image in enumerate(pixels)
    ]
    run.add_batch(items, outcomes)
    return run


def measured(
    run: RunFolder,
    metric: str,
    captions: Sequence[Caption] | None = None,
    level: float = 0.95,
) -> list[ResultRecord]:
    """What a metric says of a run."""
    items, options = run_items(run, run.rows()), MeasureOptions(level=level)
    return score_sets(items, None, [metric], options, run=SourceRun(run, captions))


def compared(
    first: RunFolder,
    second: RunFolder,
    captions: Sequence[Caption] | None = None,
    level: float = 0.95,
) -> list[ResultRecord]:
    """The difference of what two runs show."""
    scorer = Scorer.of(None, ["composition"], MeasureOptions(level=level))
    return paired_differences(
        *(
            scorer.prepare(run_items(run, run.rows()), run=SourceRun(run, captions))
            for run in (first, second)
        )
    )


def one(records: list[ResultRecord], metric: str) -> ResultRecord:
    (record,) = (record for record in records if record.metric == metric)
    return record


def test_composition_counts_what_a_run_shows_and_what_it_never_made(
    tmp_path: Path, scenes: CaptionedImages
) -> None:
    run = made(tmp_path / "run", scenes, wrong=6, unmade=3)
    record = one(measured(run, "composition"), "composition-pairs")
    assert record.value == (N - 9) / N
    assert record.n == N
    assert record.details["missing_images"] == 3
    given = measured(run, "composition", scenes.captions)
    assert one(given, "composition-pairs") == record


def test_captions_that_changed_since_are_refused(tmp_path: Path, scenes: CaptionedImages) -> None:
    other = {"name": "shapes", "n": N, "captions_sha256": "0" * 64}
    run = made(tmp_path / "run", scenes, dataset=other)
    with pytest.raises(RunFolderError, match="no longer has the captions"):
        measured(run, "composition")


@pytest.mark.parametrize(
    "config",
    [{"conditioning": "none"}, {"dataset": {"name": "coco", "n": N, "captions_sha256": ""}}],
)
def test_runs_without_scenes_say_so(
    tmp_path: Path, scenes: CaptionedImages, config: dict[str, object]
) -> None:
    run = made(tmp_path / "run", scenes, **config)
    (record,) = measured(run, "composition")
    assert record.state == "not_applicable"
    assert "a run of a text model on shapes" in record.reason
    assert compared(run, run) == []


def test_images_that_are_no_run_have_neither(scenes: CaptionedImages) -> None:
    items = [ImageItem(path=scenes.image_path(name)) for name in scenes.image_ids[:7]]
    records = score_sets(items, None, ["composition", "images-per-second"])
    assert [record.metric for record in records] == ["composition-pairs", "images-per-second"]
    assert [record.state for record in records] == ["not_applicable"] * 2
    assert [record.n for record in records] == [7, 7]


def test_speed_is_images_over_seconds_with_the_spread_of_batches(
    tmp_path: Path, scenes: CaptionedImages
) -> None:
    run = made(tmp_path / "run", scenes)
    assert measured(run, "images-per-second")[0].state == "not_applicable"
    run.add_timing(first_index=0, num_images=8, elapsed_s=4.0)
    (alone,) = measured(run, "images-per-second")
    assert (alone.value, alone.interval) == (2.0, None)
    assert "one batch has no spread" in alone.reason
    run.add_timing(first_index=8, num_images=8, elapsed_s=6.0)
    run.add_timing(first_index=16, num_images=8, elapsed_s=5.0)
    with (run.path / "timings.jsonl").open("a") as handle:
        handle.write('{"elapsed_s": 1')  # Cut off by a kill.
    (record,) = measured(run, "images-per-second")
    assert record.value == 24 / 15
    assert record.n == N
    # Of equal batches, the seconds' own relative standard error.
    relative = np.std([4, 6, 5], ddof=1) / np.sqrt(3) / 5
    assert record.standard_error == pytest.approx(1.6 * relative)
    assert record.interval is not None
    reach = np.exp(student.ppf(0.975, 2) * relative)
    assert record.interval.high == pytest.approx(1.6 * reach)
    assert record.interval.low == pytest.approx(1.6 / reach)
    (narrower,) = measured(run, "images-per-second", level=0.8)
    assert narrower.interval is not None
    assert narrower.interval.high == pytest.approx(1.6 * np.exp(student.ppf(0.9, 2) * relative))


def test_the_speed_of_a_compiled_model_is_without_the_batch_that_waited_for_the_compiler(
    tmp_path: Path, scenes: CaptionedImages
) -> None:
    run = made(tmp_path / "run", scenes)
    run.config["compiled"] = True
    run.add_timing(first_index=0, num_images=8, elapsed_s=68.0)
    assert measured(run, "images-per-second")[0].value == pytest.approx(8 / 68)
    run.add_timing(first_index=8, num_images=8, elapsed_s=4.0)
    run.add_timing(first_index=16, num_images=8, elapsed_s=4.0)
    assert measured(run, "images-per-second")[0].value == 2.0


def test_batches_too_uneven_for_a_finite_interval_have_none(
    tmp_path: Path, scenes: CaptionedImages
) -> None:
    """Two batches have one degree of freedom, whose t reaches 6,366 errors at a level of 0.9999."""
    run = made(tmp_path / "run", scenes)
    run.add_timing(first_index=0, num_images=8, elapsed_s=1.0)
    run.add_timing(first_index=8, num_images=8, elapsed_s=9.0)
    (record,) = measured(run, "images-per-second", level=0.9999)
    assert (record.value, record.interval) == (1.6, None)
    assert "no finite upper end" in record.reason
    assert record.standard_error == pytest.approx(1.6 * 0.8)
    (at_95,) = measured(run, "images-per-second")
    assert at_95.interval is not None
    assert at_95.reason == ""


def test_a_pair_of_runs_is_compared_caption_by_caption(
    tmp_path: Path, scenes: CaptionedImages
) -> None:
    good, bad = (made(tmp_path / str(k), scenes, wrong=k) for k in (1, 12))
    difference = "composition-pairs-difference"
    record = one(compared(good, bad), difference)
    assert record.value == pytest.approx(11 / N)
    assert record.details["only_first"] == 11
    assert record.details["only_second"] == 0
    assert record.details["p_value"] == pytest.approx(2 * 0.5 * 0.5**11)
    assert record.interval is not None
    assert record.interval.low > 0
    narrower = one(compared(good, bad, level=0.8), difference)
    assert narrower.interval is not None
    assert narrower.interval.low > record.interval.low
    assert narrower.interval.high < record.interval.high
    swapped = one(compared(bad, good), difference)
    assert swapped.value == pytest.approx(-11 / N)
    same = one(compared(good, good), difference)
    assert (same.value, same.details["p_value"]) == (0.0, 1.0)
    assert same.interval is not None
    assert same.interval.low < 0 < same.interval.high


def test_every_share_of_composition_has_a_difference_that_agrees_with_the_table(
    tmp_path: Path, scenes: CaptionedImages
) -> None:
    runs = [made(tmp_path / str(k), scenes, wrong=k) for k in (2, 9)]
    of = [{r.metric: r for r in measured(run, "composition")} for run in runs]
    differences = compared(*runs)
    assert [r.metric for r in differences] == [
        f"composition-{name}-difference"
        for name in ("pairs", "exact", "objects", "attributes", "relations")
    ]
    for record in differences:
        values = [one[record.metric.removesuffix("-difference")].value for one in of]
        assert record.value == pytest.approx(values[0] - values[1])  # type: ignore[operator]
        assert "compared_on" not in record.details
        assert record.interval is not None
        if "relations" not in record.metric:  # of which the scenes have only seven
            assert record.interval.low > 0


def test_several_samples_of_a_caption_are_averaged_in_a_difference(
    tmp_path: Path, scenes: CaptionedImages
) -> None:
    """Each caption twice in the second run: right once and wrong once. The difference is 1/2."""
    right = made(tmp_path / "right", scenes)
    twice = made(tmp_path / "twice", scenes)
    gray = made(tmp_path / "gray", scenes, wrong=N)
    rows = [json.loads(line) for line in (gray.path / "manifest.jsonl").read_text().splitlines()]
    for row in rows:
        shutil.copy(gray.path / row["file"], twice.path / f"gray {row['index']}.png")
        row |= {"file": f"gray {row['index']}.png", "sample_index": 1, "index": N + row["index"]}
    with (twice.path / "manifest.jsonl").open("a") as manifest:
        manifest.writelines(json.dumps(row) + "\n" for row in rows)
    record = one(compared(right, twice), "composition-pairs-difference")
    assert record.value == 0.5
    assert record.n == N
    table = one(measured(twice, "composition"), "composition-pairs")
    assert table.value == 0.5
    assert table.interval is not None
    assert "24 draws" in table.interval.method


def test_runs_of_other_captions_have_no_difference(tmp_path: Path, scenes: CaptionedImages) -> None:
    run = made(tmp_path / "run", scenes)
    other = made(tmp_path / "other", scenes)
    manifest = other.path / "manifest.jsonl"
    rows = [json.loads(line) for line in manifest.read_text().splitlines()]
    texts = {caption.image_id: caption for caption in scenes.captions}
    second = [c for c in scenes.captions if c is not texts[c.image_id]][:N]
    for row, caption in zip(rows, second, strict=True):
        row["caption_id"] = caption.id
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (record,) = compared(run, other, scenes.captions)
    assert record.state == "not_applicable"
    assert "share no caption" in record.reason


def test_paired_intervals_cover_and_true_nulls_are_seldom_rejected() -> None:
    """2,000 pairs of correlated rates; bands are binomial at 99.9 %."""
    rng = np.random.default_rng(3)
    covered = rejected = 0
    for _ in range(2000):
        common = rng.random(60)
        first = common + 0.4 * rng.standard_normal(60) > 0.5
        second = common + 0.4 * rng.standard_normal(60) > 0.5
        found = paired_rate_difference(first, second)
        covered += found.low <= 0 <= found.high
        rejected += found.p_value < 0.05
    assert 0.935 <= covered / 2000 <= 0.985
    assert 0.02 <= rejected / 2000 <= 0.07


def test_rates_that_are_not_paired_are_refused() -> None:
    with pytest.raises(DataError, match="got 3 and 2"):
        paired_rate_difference(np.ones(3, bool), np.ones(2, bool))
