"""A sweep: its points, its resuming byte for byte, its choice, and its curve."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evalkit import cli
from evalkit.analyses import cost
from evalkit.analyses.sweep import GRIDS, Axis, best_point, points, rises
from evalkit.commands import sweep as command
from evalkit.core.errors import ConfigError
from evalkit.core.results import Interval, ResultRecord, read_records
from evalkit.core.run import RunFolder
from evalkit.datasets.shapes.dataset import write_shapes
from evalkit.metrics.score import PreparedSet
from evalkit.options import SamplingOptions
from evalkit.reports.curve import CurvePoint, curve_svg, write_curve

WORDS = (
    "sweep", "--model", "glide:tiny", "--n", "4", "--batch-size", "2",
    "--guidance", "1,3", "--steps", "2", "--device", "cpu", "--metrics", "fd,clip-score", "--yes",
)  # fmt: skip


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shapes")
    write_shapes(folder, 0, 30, 0)
    return folder


def run(out: Path, data: Path, *words: str) -> None:
    cli.app([*WORDS, *words, "--data", str(data), "--out", str(out)], standalone_mode=False)


def test_points_are_every_combination() -> None:
    axes = [
        Axis.of("guidance", "1,1.5"), Axis.of("steps", "base=10,50"), Axis.of("sampler", None)
    ]  # fmt: skip
    found = points(axes)
    assert [point.name for point in found] == [
        "guidance 1, steps 10", "guidance 1, steps 50", "guidance 1.5, steps 10",
        "guidance 1.5, steps 50",
    ]  # fmt: skip
    assert found[1].folder == "guidance-1_steps-50"
    applied = found[3].applied(SamplingOptions(seed=4))
    assert (applied.guidance, applied.steps, applied.seed) == ("1.5", "base=50", 4)


def test_published_grids_have_names() -> None:
    found = Axis.of("guidance", "imagen").values
    assert found == ("1", "1.25", "1.5", "1.75", "2", "3", "4", "5", "6", "7", "8", "9", "10")
    assert Axis.of("guidance", "imagen-sr").stage == "sr1"
    assert "imagen" in GRIDS


@pytest.mark.parametrize(
    ("setting", "text", "complaint"),
    [
        ("guidance", "", "give each value once"),
        ("guidance", "1,1", "give each value once"),
        ("guidance", "imagine", "'imagine' is no number"),
        ("steps", "ten", "'ten' is no number"),
    ],
)
def test_axes_that_are_none(setting: str, text: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint) as caught:
        Axis.of(setting, text)
    assert "\n" not in str(caught.value)
    with pytest.raises(ConfigError, match="Nothing to sweep"):
        points([Axis.of("guidance", None)])


def contents(folder: Path) -> dict[str, bytes]:
    """Every file but the clock's."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in ("timings.jsonl", ".lock")
    }


def test_a_killed_sweep_ends_the_same_byte_for_byte(
    tmp_path: Path,
    shapes: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("COLUMNS", "150")
    run(tmp_path / "whole", shapes)
    shown = " ".join(capsys.readouterr().out.split())
    assert "2 points, " in shown
    assert "CLIP score" in shown
    assert "is lowest at guidance" in shown
    add_batch, calls = RunFolder.add_batch, []

    def killed(self: Any, items: Any, outcomes: Any) -> None:
        calls.append(len(items))
        if len(calls) == 3:
            raise OSError("killed")
        add_batch(self, items, outcomes)

    monkeypatch.setattr(RunFolder, "add_batch", killed)
    with pytest.raises(OSError, match="killed"):
        run(tmp_path / "killed", shapes)
    assert not (tmp_path / "killed" / "sweep.json").exists()
    run(tmp_path / "killed", shapes)
    assert calls == [2, 2, 2, 2, 2], "finished batches are kept"
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")
    records = read_records(tmp_path / "whole" / "sweep.json")
    assert {record.subject for record in records} == {
        "guidance 1, steps 2", "guidance 3, steps 2"
    }  # fmt: skip
    seeds = [
        [row.seed for row in RunFolder.read(tmp_path / "whole" / name).rows()]
        for name in ("guidance-1_steps-2", "guidance-3_steps-2")
    ]
    assert seeds[0] == seeds[1], "noise is shared"
    assert (tmp_path / "whole" / "sweep.html").is_file()


def test_without_yes_there_is_a_question(tmp_path: Path, shapes: Path) -> None:
    words = [word for word in WORDS if word != "--yes"]
    with pytest.raises(ConfigError, match="Add --yes"):
        cli.app(
            [*words, "--data", str(shapes), "--out", str(tmp_path / "asked")],
            standalone_mode=False,
        )


def record(metric: str, value: float, low: float, high: float) -> ResultRecord:
    interval = Interval(low=low, high=high, method="by hand")
    return ResultRecord(metric=metric, value=value, n=9, direction="lower", interval=interval)


def test_the_best_point_and_what_cant_be_excluded(monkeypatch: pytest.MonkeyPatch) -> None:
    records = {
        "a": [record("fd-infinity", 3, 2, 4)],
        "b": [record("fd-infinity", 2, 1, 3)],
        "c": [record("fd-infinity", 9, 8, 10)],
    }
    p_values = {0: 0.03, 2: 0.001}
    sets = {name: PreparedSet({}, {}, number) for number, name in enumerate("abc")}

    def differences(first: Any, second: Any) -> list[ResultRecord]:
        assert first.n == 1
        return [
            ResultRecord(
                metric="fd-difference", value=1.0, n=9, direction="lower",
                details={"p_value": p_values[second.n]},
            )
        ]  # fmt: skip

    monkeypatch.setattr("evalkit.analyses.sweep.paired_differences", differences)
    found = best_point(records, sets, "fd")
    assert found is not None
    assert (found.name, found.metric) == ("b", "fd-infinity")
    assert found.level == pytest.approx(0.025)
    assert found.not_excluded == ("a", "b")
    lines = command.sentences(records, found)
    assert lines[0] == "fd-infinity is lowest at b."
    assert "corrected for the number of points): a." in lines[1]


def test_the_curve_has_intervals_on_both_axes(tmp_path: Path) -> None:
    interval = Interval(low=1.0, high=2.0, method="by hand")
    curve = [
        CurvePoint(name="w = 1", x=1.5, y=1.4, x_interval=interval, y_interval=interval),
        CurvePoint(name="w < 2", x=1.9, y=1.1),
    ]
    svg = curve_svg(curve, x_label="CLIP", y_label="FD")
    assert svg.count("<circle") == 2
    assert svg.count('stroke="#4477aa"') == 3  # the line, and two intervals of one point
    assert "w &lt; 2" in svg
    write_curve(tmp_path / "c.html", curve, title="t", x_label="CLIP", y_label="FD", lines=["a<b"])
    page = (tmp_path / "c.html").read_text("utf-8")
    assert "a&lt;b" in page
    assert "<script" not in page


def test_clip_score_is_described_as_it_comes_out() -> None:
    assert rises([1, 2, 3]) == "rises"
    assert rises([1, 3, 2]) == "neither rises nor falls throughout"


def test_costs_are_said_in_words() -> None:
    found = cost.Cost(images_per_s=2.0, seconds=7200, num_bytes=3_000_000, num_images=14_400)
    assert str(found) == "14,400 images at 2 images/s: 2.0 hours, 3.0 MB on disk"


def test_fid_says_what_takes_long(
    tmp_path: Path,
    shapes: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = [
        "fid", "--model", "glide:tiny", "--data", str(shapes), "--n", "4", "--batch-size", "2",
        "--steps", "base=2,upsampler=1", "--device", "cpu", "--metrics", "clip-score",
    ]  # fmt: skip
    cli.app([*words, "--out", str(tmp_path / "a")], standalone_mode=False)
    assert "Generating" not in capsys.readouterr().out
    monkeypatch.setattr("evalkit.commands.fid.LONG_S", 0.0)
    cli.app([*words, "--out", str(tmp_path / "b")], standalone_mode=False)
    assert "Generating 2 images at" in capsys.readouterr().out
    pictures = [sorted((tmp_path / name / "images").rglob("*.png")) for name in "ab"]
    for first, second in zip(*pictures, strict=True):
        assert np.array_equal(first.read_bytes(), second.read_bytes())
