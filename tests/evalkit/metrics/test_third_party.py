"""A metric of another package has all that ours have, by one file and one entry point."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from packages import install_package
from PIL import Image

from evalkit.catalog import METRICS
from evalkit.core.errors import ConfigError
from evalkit.core.progress import console
from evalkit.core.results import read_records
from evalkit.metrics.comparison import compare_sets
from evalkit.metrics.loading import load_metric, metric_needs
from evalkit.options import MeasureOptions
from evalkit.reports import wording
from evalkit.reports.tables import write_csv
from tests.evalkit.commands.test_commands import by_metric, run

N = 12
JUDGE = ["--features", "shapes-clip", "--clip-model", "shapes-clip"]
MODULE = """
import numpy as np

from evalkit.catalog import MetricRow, RecordRow
from evalkit.metrics.means import mean_interval
from evalkit.metrics.pairing import mean_difference
from evalkit.metrics.task import Metric, features_need

ROW = MetricRow(
    target="lab_offset:OFFSET",
    summary="distance of samples from the mean real image",
    min_n=2,
    needs="reference",
    pairs=True,
    paper="Lab et al. 2026",
    records=(
        RecordRow(name="lab/offset", label="Offset ({features})", direction="lower", unit="ells"),
        RecordRow(
            name="lab/offset-q{q}",
            label="Offset, {q} %",
            direction="none",
            summary="{metric}, at a quantile",
        ),
    ),
)


def offsets(task):
    need = task.needs[0]
    middle = np.asarray(task.real(need)).mean(axis=0)
    return np.linalg.norm(np.asarray(task.fake(need)) - middle, axis=1).astype(np.float64)


def measure(task):
    found = mean_interval(task.once(offsets), level=task.options.level)
    low = float(np.quantile(task.once(offsets), 0.25))
    return [
        task.record(task.needs[0], value=found.value, interval=found.interval),
        task.record(task.needs[0], value=low, metric="lab/offset-q25", reason="no interval"),
    ]


def difference(first, second):
    return [mean_difference(first, second, offsets)]


OFFSET = Metric(lambda options: [features_need(options)], measure, difference)
"""
Package = Callable[..., None]


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Package:
    """Install the module, changed in places, under `lab/offset` or other entry points."""
    folder = tmp_path / "package"
    folder.mkdir()
    monkeypatch.setattr(sys, "argv", sys.argv)
    monkeypatch.setattr(console, "_width", 200)
    monkeypatch.chdir(tmp_path)

    def install(*changes: tuple[str, str], **points: str) -> None:
        source = MODULE
        for before, after in changes:
            assert before in source
            source = source.replace(before, after)
        install_package(
            folder,
            monkeypatch,
            modules={"lab_offset": source},
            entry_points={
                "evalkit.metrics": {
                    f"lab/{name}": target
                    for name, target in (points or {"offset": "lab_offset:ROW"}).items()
                }
            },
        )

    return install


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Real images, and two models' samples of the same captions: one close, one gray."""
    root = tmp_path_factory.mktemp("sets")
    rng = np.random.default_rng(0)
    real = rng.integers(0, 256, (N, 8, 8, 3))
    for name, weight in (("real", 1.0), ("close", 0.9), ("gray", 0.1)):
        (root / name).mkdir()
        rows = []
        for index, image in enumerate(real):
            noise = rng.integers(-5, 6, image.shape)
            pixels = np.clip(weight * image + (1 - weight) * 128 + noise, 0, 255)
            file = f"{index:02}.png"
            enlarged = Image.fromarray(pixels.astype(np.uint8)).resize((64, 64))
            enlarged.save(root / name / file)
            rows.append({"file_name": file, "text": f"scene {index}", "id": f"c{index}"})
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (root / name / "captions.jsonl").write_text(lines)
    return {name: root / name for name in ("real", "close", "gray")}


def test_it_is_listed(package: Package, capsys: pytest.CaptureFixture[str]) -> None:
    package()
    assert run("list", "metrics") == 0
    (line,) = (line for line in capsys.readouterr().out.splitlines() if "lab/offset" in line)
    for cell in ("lower is better", " 2 ", "distance of samples from the mean", "Lab et al. 2026"):
        assert cell in line


def test_it_is_scored_as_ours_are(
    package: Package, sets: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    package()
    assert run("score", sets["close"], "--against", sets["real"], *JUDGE,
               "--metrics", "lab/offset,fd", "--json", tmp_path / "r.json") == 0  # fmt: skip
    records = by_metric(tmp_path / "r.json")
    assert list(records) == ["lab/offset", "lab/offset-q25", "fd", "fd-infinity"]
    offset, quantile = records["lab/offset"], records["lab/offset-q25"]
    assert (offset.direction, offset.unit, offset.n) == ("lower", "ells", N)
    assert (quantile.direction, quantile.unit) == ("none", "")
    assert offset.fingerprint["samples_sha256"] == records["fd"].fingerprint["samples_sha256"]
    assert "Offset (shapes-clip) ↓ (ells)" in capsys.readouterr().out
    assert wording.label(quantile) == "Offset, 25 %"
    said = "Distance of samples from the mean real image, by shapes-clip"
    assert wording.summary(offset) == said
    assert wording.summary(quantile) == f"{said}, at a quantile"
    assert wording.source(quantile) == "Lab et al. 2026"
    write_csv(tmp_path / "r.csv", read_records(tmp_path / "r.json"))
    rows = list(csv.DictReader((tmp_path / "r.csv").read_text("utf-8").splitlines()))
    assert [rows[0][key] for key in ("metric", "direction", "unit")] == [
        "lab/offset", "lower", "ells"
    ]  # fmt: skip
    assert float(rows[0]["value"]) == offset.value


def test_it_is_compared_as_ours_are(
    package: Package, sets: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    package()
    assert run("compare", sets["close"], sets["gray"], "--against", sets["real"], *JUDGE,
               "--metrics", "lab/offset,clip-score", "--html", tmp_path / "page.html",
               "--json", tmp_path / "r.json") == 0  # fmt: skip
    records = {(r.subject, r.metric): r for r in read_records(tmp_path / "r.json")}
    difference = records["close - gray", "lab/offset-difference"]
    values = [records[name, "lab/offset"].value for name in ("close", "gray")]
    assert difference.value == pytest.approx(values[0] - values[1])  # type: ignore[operator]
    assert (difference.direction, difference.unit, difference.n) == ("lower", "ells", N)
    assert difference.details["shared_ids"] == N
    assert ("close - gray", "clip-score-difference") in records
    page = (tmp_path / "page.html").read_text("utf-8")
    for text in (
        "Offset (shapes-clip)",
        "Offset (shapes-clip), difference",
        "lower is better",
        "ells",
        "Lab et al. 2026",
        "Distance of samples from the mean real image",
    ):
        assert text in page, text
    table = capsys.readouterr().out.split("Paired differences")[1]
    assert "Offset (shapes-clip)" in table


def test_it_is_known_where_no_metric_pairs(package: Package) -> None:
    package()
    with pytest.raises(
        ConfigError, match=r"'images-per-second' has no paired difference; .*, lab/offset\.$"
    ):
        compare_sets([], [], None, ["images-per-second"])


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (("pairs=True", "pair=True"), "can't be loaded"),
        (('label="Offset, {q} %"', 'label="Offset, {k} %"'), "{k}"),
        (("import numpy", "import no_such_numpy"), "no_such_numpy"),
        (("ROW = MetricRow", "OTHER = MetricRow"), "ROW"),
    ],
)
def test_a_broken_row_is_one_line(
    package: Package, sets: dict[str, Path], capfd: pytest.CaptureFixture[str],
    change: tuple[str, str], complaint: str,
) -> None:  # fmt: skip
    package(change)
    command = ["score", sets["close"], "--against", sets["real"], *JUDGE, "--metrics"]
    assert run(*command, "lab/offset") == 2
    error = capfd.readouterr().err.strip()
    assert "entry point 'lab/offset' of evalkit.metrics" in error
    assert complaint in error
    assert error.count("\n") == 0
    assert run("list", "metrics") == 0
    assert "can't be loaded" in capfd.readouterr().out
    # What ours yield is named all the same.
    assert run(*command, "fd") == 0
    assert "FD (shapes-clip)" in capfd.readouterr().out


def test_an_entry_point_that_names_a_bare_metric_is_refused(package: Package) -> None:
    package(offset="lab_offset:OFFSET")
    with pytest.raises(ConfigError, match="is a Metric, expected a MetricRow"):
        METRICS["lab/offset"]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (('"lab_offset:OFFSET"', '"lab_offset:GONE"'), "'lab_offset:GONE' can't be loaded"),
        (('"lab_offset:OFFSET"', '"lab_offset:measure"'), "is a function, expected a Metric"),
        ((", measure, difference)", ", measure)"), "pairs=True, but .* has no difference"),
        (("pairs=True", "pairs=False"), "pairs=False, but .* has a difference"),
        (('needs="reference"', 'needs="captions"'), "needs='captions', but .* the reference"),
    ],
)
def test_a_row_that_leads_astray_is_refused(
    package: Package, change: tuple[str, str], complaint: str
) -> None:
    package(change)
    with pytest.raises(ConfigError, match=f"^Metric lab/offset: .*{complaint}"):
        metric_needs("lab/offset", MeasureOptions())


@pytest.mark.parametrize(
    ("change", "command"),
    [
        (('metric="lab/offset-q25"', 'metric="lab/offset-low"'), "score"),
        (
            (
                "return [mean_difference(first, second, offsets)]",
                "from dataclasses import replace\n"
                "    found = mean_difference(first, second, offsets)\n"
                '    return [replace(found, metric="lab/offset-low")]',
            ),
            "compare",
        ),
    ],
)
def test_a_record_that_is_not_declared_is_its_metrics_fault(
    package: Package, sets: dict[str, Path], capfd: pytest.CaptureFixture[str],
    change: tuple[str, str], command: str,
) -> None:  # fmt: skip
    package(change)
    samples = [sets["close"], sets["gray"]][: 2 if command == "compare" else 1]
    assert run(command, *samples, "--against", sets["real"], *JUDGE,
               "--metrics", "lab/offset") == 2  # fmt: skip
    error = capfd.readouterr().err.strip().splitlines()[-1]
    assert "The metric lab/offset yields a record 'lab/offset-low'" in error
    assert "it declares lab/offset, lab/offset-q{q}. Add a RecordRow" in error


def test_it_loads_by_its_name(package: Package) -> None:
    package()
    assert METRICS["lab/offset"].pairs
    assert load_metric("lab/offset").difference is not None
