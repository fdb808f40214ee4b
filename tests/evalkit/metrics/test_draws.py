"""Which images are one draw: kinds of ids, chains of ties, and copies between and within sets."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from rich.console import Console

from evalkit.core.results import ResultRecord
from evalkit.features.sources import ImageItem, image_items
from evalkit.metrics import score
from evalkit.metrics.comparison import compare_sets
from evalkit.metrics.draws import Copies, joined_draws, ties_of
from evalkit.metrics.kid import kid_means
from evalkit.metrics.mmd import SameFiles
from evalkit.metrics.score import Scorer, score_sets
from evalkit.options import MeasureOptions
from evalkit.reports.html import RunReport, render
from evalkit.reports.tables import terminal_table, tidy_row
from tests.evalkit.metrics.test_score import Pixels

N = 48


@pytest.fixture(autouse=True)
def pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    def load_extractor(key: str, options: Any, layers: Any = (), progress: Any = None) -> Pixels:
        return Pixels(key, layers)

    monkeypatch.setattr(score, "load_extractor", load_extractor)


@pytest.fixture
def options(tmp_path: Path) -> MeasureOptions:
    return MeasureOptions(store=tmp_path / "store", kid_subset_size=20)


@pytest.fixture
def real(tmp_path: Path) -> Path:
    return drawn(tmp_path / "real", 1)


def drawn(folder: Path, seed: int, n: int = N) -> Path:
    """A folder of n different random images."""
    folder.mkdir()
    rng = np.random.default_rng(seed)
    for i in range(n):
        pixels = rng.integers(0, 256, (4, 2, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{i:02}.png")
    return folder


def by_name(records: list[ResultRecord]) -> dict[str, ResultRecord]:
    return {record.metric: record for record in records}


class TestDraws:
    def test_a_caption_is_no_image(self) -> None:
        caption = ties_of(image_id=None, caption_id="7", sha256="a")
        image = ties_of(image_id="7", caption_id=None, sha256="b")
        assert joined_draws([caption], [image]) == [["caption 7"], ["image 7"]]

    def test_chains_join(self) -> None:
        # Two captions of one image; a copy of the second's sample under a third caption.
        first = [ties_of(image_id="3", caption_id=c, sha256=c) for c in ("30", "31")]
        other = [ties_of(image_id=None, caption_id="99", sha256="31")]
        assert joined_draws(first, other) == [["image 3", "image 3"], ["image 3"]]

    @given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9), st.integers(0, 9)), max_size=9))
    def test_names_do_not_depend_on_order(self, triples: list[tuple[int, int, int]]) -> None:
        ties = [ties_of(image_id=str(a), caption_id=str(b), sha256=str(c)) for a, b, c in triples]
        (names,), (backwards,) = joined_draws(ties), joined_draws(ties[::-1])
        assert names == backwards[::-1]
        for one, of_one in zip(ties, names, strict=True):
            for other, of_other in zip(ties, names, strict=True):
                assert of_one == of_other or not set(one) & set(other)

    def test_images_without_ties_are_alone(self) -> None:
        ((a, b), (c,)) = joined_draws([(), ()], [()])
        assert len({a, b, c}) == 3

    def test_copies_are_counted(self) -> None:
        found = Copies.of(["x", "x", "y", "z"], ["x", "w", "w"])
        assert found == Copies(samples_in_reference=2, repeated_samples=1, repeated_reference=1)
        assert Copies.of(["x", "y"], ["z"]).found() == {}


class TestPairsOfCopies:
    def test_are_no_pairs(self) -> None:
        """By hand: samples 0, 3 and 3 again, reference 0 and 1, where the two zeros are one image.

        The kernel is (xy + 1)^3. Across, 0 meets only 1: 1. Each 3 meets 0 and 1: (1 + 64) / 2.
        Within the samples, 0 meets both 3: 1; each 3 meets only 0: 1.
        """
        fake, reference = np.array([[0.0], [3.0], [3.0]]), np.array([[0.0], [1.0]])
        same = SameFiles.of(["zero", "three", "three"], ["zero", "one"])
        found = kid_means(fake, reference, same)
        np.testing.assert_allclose(found.fake_other, [1, 32.5, 32.5])
        np.testing.assert_allclose(found.real_other, [1, (1 + 64 + 64) / 3])
        np.testing.assert_allclose(found.fake_own, [1, 1, 1])
        assert found.unbiased() == pytest.approx(1 + 1 - 2 * (1 + 32.5 + 32.5) / 3)
        # The V-statistic has all pairs, as published: those within 0, 3, 3 are 1 and 1,000.
        assert found.all_fake == pytest.approx((5 * 1 + 4 * 1000) / 9)
        assert found.all_between == pytest.approx((1 + 1 + 2 * (1 + 64)) / 6)

    def test_a_set_of_one_image_says_so(self, real: Path, options: MeasureOptions) -> None:
        item = image_items(real)[0]
        records = score_sets([item] * 3, image_items(real), ["kid", "cmmd"], options)
        assert {record.state for record in records} == {"not_applicable"}
        assert {record.reason for record in records} == {
            "the 3 samples are copies of one image, which is one draw"
        }
        (difference,) = compare_sets(
            image_items(real), [item] * 3, image_items(real), ["kid"], options
        )
        assert "the 3 samples are copies of one image" in difference.reason


def test_a_set_against_itself_is_0_away(real: Path, options: MeasureOptions) -> None:
    items = image_items(real)
    found = by_name(score_sets(items, items[::-1], ["fid", "kid", "cmmd"], options))
    for name in ("fid", "fid-infinity", "kid-full", "cmmd", "cmmd-unbiased"):
        assert found[name].value == pytest.approx(0, abs=1e-10), name
        assert found[name].details["copies"] == {"samples_in_reference": N}
    assert found["kid"].interval is None
    assert f"no interval: {N} samples are images of the reference" in found["kid"].reason
    task = task_of(items, items, options)
    assert task.is_of_itself
    assert not task_of(items, items[1:], options).is_of_itself
    assert not task_of(items, items, replace(options, crop="center", size_px=2)).is_of_itself


def task_of(samples: list[ImageItem], reference: list[ImageItem], options: MeasureOptions) -> Any:
    scorer = Scorer.of(reference, ["fid"], options)
    return scorer.prepare(samples).tasks["fid"]


def test_leaked_samples_are_not_closer_than_0(
    real: Path, options: MeasureOptions, tmp_path: Path
) -> None:
    """Two thirds of the samples are reference images, under other names."""
    leaky = drawn(tmp_path / "leaky", 2, n=N // 3)
    for i, path in enumerate(sorted(real.glob("*.png"))[: 2 * N // 3]):
        shutil.copy(path, leaky / f"copy {i}.png")
    found = by_name(score_sets(image_items(leaky), image_items(real), ["kid"], options))
    full = found["kid-full"]
    assert full.interval is not None
    assert full.interval.low <= 0 <= full.interval.high
    assert full.details["copies"] == {"samples_in_reference": 2 * N // 3}


def test_repeated_samples_are_one_draw(real: Path, options: MeasureOptions, tmp_path: Path) -> None:
    once = drawn(tmp_path / "once", 3, n=16)
    thrice = tmp_path / "thrice"
    thrice.mkdir()
    for path in once.glob("*.png"):
        for i in range(3):
            shutil.copy(path, thrice / f"{path.stem}-{i}.png")
    of = {
        folder.name: by_name(score_sets(image_items(folder), image_items(real), ["kid"], options))
        for folder in (once, thrice)
    }
    assert of["thrice"]["kid"].details["copies"] == {"repeated_samples": 32}
    assert "copies" not in of["once"]["kid"].details
    once_full, thrice_full = of["once"]["kid-full"], of["thrice"]["kid-full"]
    assert thrice_full.value == pytest.approx(once_full.value)
    assert thrice_full.standard_error == pytest.approx(once_full.standard_error)


def test_copies_are_said_in_every_output(real: Path, options: MeasureOptions) -> None:
    shutil.copy(real / "00.png", real / "again.png")
    (samples, reference) = image_items(real)[:30], image_items(real)
    records = score_sets(samples, reference, ["fid", "is"], options)
    texts = ("30 samples are reference images", "1 reference image is a copy of another")
    console = Console(width=200)
    with console.capture() as capture:
        console.print(terminal_table(records))
    page = render(RunReport(title="t", question="q", records=records))
    row = tidy_row(records[0])
    for text in texts:
        assert text in capture.get()
        assert text in page
        assert text in str(row["marks"])
    assert row["fingerprint.copies.samples_in_reference"] == 30
    assert "copies" not in by_name(records)["is"].fingerprint  # it has no reference


def test_models_that_give_the_same_image_share_its_draw(
    real: Path, options: MeasureOptions, tmp_path: Path
) -> None:
    """Without ids, equal files tie two models' samples; other files don't."""
    own = drawn(tmp_path / "own", 4)
    half = tmp_path / "half"
    shutil.copytree(own, half)
    for i, path in enumerate(sorted(drawn(tmp_path / "others", 5).glob("*.png"))[: N // 2]):
        shutil.copy(path, half / f"{i:02}.png")
    sets = [image_items(folder) for folder in (own, half)]
    (record,) = compare_sets(*sets, image_items(real), ["kid"], options)
    assert record.details["shared_ids"] == N // 2
