"""A set of images is what is on disk, once each, whatever its tables say."""

from __future__ import annotations

import json
import shutil
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from evalkit import cli
from evalkit.core.results import ResultRecord, read_records

CHEAP = ["--features", "shapes-clip", "--clip-model", "shapes-clip"]
NUM = 24


@pytest.fixture(autouse=True)
def keep_argv(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", sys.argv)


def run(*arguments: str | Path) -> int:
    sys.argv = ["evalkit", *map(str, arguments)]
    try:
        cli.main()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from evalkit.datasets.shapes.dataset import write_shapes

    return write_shapes(tmp_path_factory.mktemp("shapes"), NUM, NUM) / "images"


@pytest.fixture
def scored(drawn: Path, tmp_path: Path) -> Callable[..., dict[str, ResultRecord]]:
    def score(samples: Path, *metrics: str) -> dict[str, ResultRecord]:
        out = tmp_path / "records.json"
        asked = ["--metrics", ",".join(metrics), "--json", out, *CHEAP]
        assert run("score", samples, "--against", drawn / "val", *asked) == 0
        return {record.metric: record for record in read_records(out)}

    return score


@pytest.fixture
def names(drawn: Path) -> list[str]:
    return sorted(path.name for path in (drawn / "train").glob("*.png"))


def captioned(drawn: Path, folder: Path, table: str, name: str = "captions.csv") -> Path:
    shutil.copytree(drawn / "train", folder)
    (folder / name).write_text(table)
    return folder


def test_unequal_numbers_of_captions_change_no_metric_of_images(
    drawn: Path,
    names: list[str],
    scored: Callable[..., dict[str, ResultRecord]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The first image has five captions, the second two, the last four none."""
    counts = [5, 2, *[1] * (NUM - 6), 0, 0, 0, 0]
    rows = [
        f"{name},a red circle {k}\n"
        for name, count in zip(names, counts, strict=True)
        for k in range(count)
    ]
    folder = captioned(drawn, tmp_path / "set", "file_name,text\n" + "".join(rows))
    with_table = scored(folder, "fd", "kid", "clip-score", "r-precision")
    assert "4 of 24 images have no caption in captions.csv" in capsys.readouterr().out
    without = scored(drawn / "train", "fd", "kid")
    for metric in ("fd", "kid-full"):
        assert with_table[metric].n == NUM
        assert with_table[metric].value == without[metric].value
        assert with_table[metric].interval == without[metric].interval
    score = with_table["clip-score"]
    assert score.n == NUM - 4
    assert score.details["num_captions"] == sum(counts)
    assert score.details["num_without_caption"] == 4
    assert "4 of 24 images have no caption" in score.reason
    assert score.interval is not None
    assert "20 ids as draws" in score.interval.method


def test_the_captions_of_an_image_are_one_draw(
    drawn: Path,
    names: list[str],
    scored: Callable[..., dict[str, ResultRecord]],
    tmp_path: Path,
) -> None:
    """Repeating every caption adds no information: value and interval stay."""
    row = "{},a scene of shapes\n"
    once = "".join(row.format(name) for name in names)
    one = captioned(drawn, tmp_path / "one", f"file_name,text\n{once}")
    three = captioned(drawn, tmp_path / "three", f"file_name,text\n{once * 3}")
    first, second = (scored(folder, "clip-score")["clip-score"] for folder in (one, three))
    assert first.n == second.n == NUM
    assert second.value == pytest.approx(first.value)
    assert first.standard_error is not None
    assert second.standard_error == pytest.approx(first.standard_error)


def test_captions_in_a_zip_are_scored(
    drawn: Path,
    names: list[str],
    scored: Callable[..., dict[str, ResultRecord]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    table = "".join(json.dumps({"file_name": n, "text": "a red circle"}) + "\n" for n in names)
    folder = captioned(drawn, tmp_path / "set", table, "metadata.jsonl")
    (folder / "note.xyz").write_text("x")
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        for path in folder.iterdir():
            archive.write(path, f"deep/{path.name}")
    of_zip = scored(tmp_path / "set.zip", "clip-score")["clip-score"]
    assert "set.zip: 1 file left out: .xyz" in capsys.readouterr().out.replace("\n", "")
    of_folder = scored(folder, "clip-score")["clip-score"]
    assert of_zip.value == of_folder.value
    assert of_zip.n == NUM


def test_captions_that_the_context_cuts_are_counted(
    drawn: Path,
    names: list[str],
    scored: Callable[..., dict[str, ResultRecord]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    long = "a red circle above a blue square " * 40
    table = "".join(f"{n},{long if i < 3 else 'short'}\n" for i, n in enumerate(names))
    folder = captioned(drawn, tmp_path / "set", f"file_name,text\n{table}")
    found = scored(folder, "clip-score")
    assert found["clip-score"].details["num_cut_captions"] == 3
    assert "3 captions are longer than CLIP's context" in capsys.readouterr().out


def test_a_comparison_pairs_images_by_their_captions(
    drawn: Path, names: list[str], tmp_path: Path
) -> None:
    table = "file_name,text\n" + "".join(f"{n},scene {k}\n" for n in names for k in (1, 2))
    sets = [captioned(drawn, tmp_path / name, table) for name in ("a", "b")]
    out = tmp_path / "records.json"
    asked = ["--metrics", "clip-score", "--json", out, "--html", tmp_path / "c.html", *CHEAP]
    assert run("compare", *sets, "--against", drawn / "val", *asked) == 0
    (difference,) = [r for r in read_records(out) if r.metric.endswith("-difference")]
    assert (difference.value, difference.n) == (0.0, NUM)


def test_an_error_inside_a_metric_keeps_its_traceback(
    drawn: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only faults of the input become one line; a bug must stay visible."""
    from evalkit.metrics import kid

    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("a bug of the metric")

    monkeypatch.setattr(kid, "kid", broken)
    with pytest.raises(ZeroDivisionError, match="a bug of the metric") as caught:
        run("score", drawn / "train", "--against", drawn / "val", "--metrics", "kid", *CHEAP)
    assert [entry.name for entry in caught.traceback][-1] == "broken"
