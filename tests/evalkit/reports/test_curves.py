"""The curve of a distance against n: drawn from the record alone, read back from the SVG."""

from __future__ import annotations

import re

import pytest

from evalkit.core.results import ResultRecord
from evalkit.reports.curves import distance_curve
from evalkit.reports.html import RunReport, render

POINTS = [
    {"n": 100, "plug_in": 9.0, "corrected": None, "low": None, "high": None},
    {"n": 200, "plug_in": 5.0, "corrected": 1.5, "low": 0.5, "high": 2.5},
    {"n": 400, "plug_in": 3.0, "corrected": 1.0, "low": 0.5, "high": 1.5},
]


def record(points: object) -> ResultRecord:
    return ResultRecord(
        metric="fid-infinity", value=1.0, n=400, direction="lower", reason="none",
        details={"label": "FID∞", "against_n": points},
    )  # fmt: skip


def test_heights_follow_the_values() -> None:
    curve = distance_curve(record(POINTS))
    assert curve is not None
    assert curve.title == "FID against the number of samples"
    lines = re.findall(r'<path aria-label="samples[^"]*"[^>]* d="(M[^"]+)" stroke=', curve.svg)
    heights = {
        len(path.split("L")): [float(point.split(",")[1]) for point in path[1:].split("L")]
        for path in lines
    }
    plug_in, corrected = heights[3], heights[2]
    assert plug_in[0] < plug_in[1] < plug_in[2] < corrected[0] < corrected[1]
    scale = (plug_in[1] - plug_in[0]) / (9.0 - 5.0)
    assert plug_in[2] - plug_in[1] == pytest.approx(scale * 2.0, abs=1e-3)
    assert corrected[1] - corrected[0] == pytest.approx(scale * 0.5, abs=1e-3)


@pytest.mark.parametrize("points", [None, [], POINTS[:1]])
def test_without_two_sizes_there_is_none(points: object) -> None:
    assert distance_curve(record(points)) is None


def test_the_report_shows_it_without_script() -> None:
    page = render(RunReport(title="t", question="q", records=[record(POINTS)]))
    assert "FID against the number of samples" in page
    assert "<svg" in page
    assert "<script" not in page
    assert "against_n" not in page


def test_the_axis_is_of_both_distances() -> None:
    of_other_features = ResultRecord(
        metric="fd-infinity", value=1.0, n=400, direction="lower", reason="none",
        details={"label": "FD∞ (shapes-clip)", "against_n": POINTS},
    )  # fmt: skip
    curve = distance_curve(of_other_features)
    assert curve is not None
    assert "∞" not in curve.title
    assert curve.title.startswith("FD")
