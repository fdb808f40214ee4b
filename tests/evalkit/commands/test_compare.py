"""Two sets of one set of captions: `compare`, `plan fid`, `statistics` and `cache`."""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from evalkit.core.results import ResultRecord, read_records
from evalkit.datasets.shapes import dataset as shapes
from evalkit.features.store import FeatureStore
from tests.evalkit.commands.test_commands import by_metric, run

N = 140
JUDGE = ["--features", "shapes-clip", "--clip-model", "shapes-clip"]


@pytest.fixture(autouse=True)
def in_a_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "argv", sys.argv)
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Drawn scenes as reference; the scenes themselves and blurred ones as two models' samples."""
    from evalkit.datasets.shapes.dataset import load_shapes, write_shapes

    root = tmp_path_factory.mktemp("sets")
    data = load_shapes(write_shapes(root / "real", 0, N), num_images=N)
    for name, radius in (("sharp", 0.3), ("blurred", 2.0)):
        (root / name).mkdir()
        rows = []
        for image_id in data.image_ids:
            caption = next(c for c in data.captions if c.image_id == image_id)
            image = Image.open(data.image_path(image_id)).filter(ImageFilter.GaussianBlur(radius))
            image.save(root / name / f"{image_id}.png")
            rows.append(
                {"file_name": f"{image_id}.png", "text": caption.text, "id": caption.id,
                 "category": caption.category}
            )  # fmt: skip
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (root / name / "captions.jsonl").write_text(lines)
    return {name: root / name for name in ("real", "sharp", "blurred")}


def test_compare_tells_who_is_closer(
    sets: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("compare", sets["sharp"], f"soft={sets['blurred']}", "--against", sets["real"],
               *JUDGE, "--metrics", "fd,kid,clip-score", "--html", tmp_path / "page.html",
               "--json", tmp_path / "r.json") == 0  # fmt: skip
    records = read_records(tmp_path / "r.json")
    differences = {r.metric: r for r in records if r.metric.endswith("-difference")}
    assert set(differences) == {"fd-difference", "kid-full-difference", "clip-score-difference"}
    for record in differences.values():
        assert record.subject == "sharp - soft"
        assert record.details["shared_ids"] == N
        assert record.interval is not None
    assert value(differences["fd-difference"]) < 0
    assert differences["fd-difference"].details["p_value"] < 0.01
    of = {(r.subject, r.metric): r for r in records}
    plug_in = value(of["sharp", "kid-full"]) - value(of["soft", "kid-full"])
    assert value(differences["kid-full-difference"]) == pytest.approx(plug_in)
    said = capsys.readouterr().out
    assert "favours" in said
    assert "Paired differences, sharp - soft" in said
    page = (tmp_path / "page.html").read_text()
    assert "<strong><bdi>sharp</bdi></strong>" in page
    assert "Side by side" in page
    listed = of["soft", "fd"].details
    assert set(listed["influence_by_category"]) == {"single", "relation", "count", "several"}
    assert {entry["category"] for entry in listed["most_influential"]} <= {
        "single", "relation", "count", "several"
    }  # fmt: skip


def value(record: ResultRecord) -> float:
    assert record.value is not None
    return record.value


def test_a_plan_by_one_pilot_and_by_two(
    sets: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    needed = {}
    for name, more in (("one", []), ("two", ["--second", sets["blurred"]])):
        assert run("plan", "fid", sets["sharp"], "--against", sets["real"], "--features",
                   "shapes-clip", "--difference", "0.01", *more,
                   "--json", tmp_path / f"{name}.json") == 0  # fmt: skip
        needed[name] = by_metric(tmp_path / f"{name}.json")["images-needed"]
    assert needed["one"].details["pilot_n"] == N
    assert not needed["one"].details["paired"]
    assert needed["two"].details["paired"]
    assert value(needed["one"]) != value(needed["two"])
    said = capsys.readouterr().out
    assert f"{int(value(needed['one'])):,} images per model" in said


def test_statistics_serve_as_a_reference_and_others_are_refused(
    sets: dict[str, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "real.npz"
    assert run("statistics", sets["real"], "--out", file, "--features", "shapes-clip") == 0
    with np.load(file) as stored:
        assert stored["mu"].shape == (128,)
        assert int(stored["n"]) == N
    for name, against in (("file", file), ("images", sets["real"])):
        assert run("score", sets["blurred"], "--against", against, *JUDGE, "--metrics", "fd",
                   "--json", tmp_path / f"{name}.json") == 0  # fmt: skip
    by_file, by_images = (by_metric(tmp_path / f"{n}.json")["fd"] for n in ("file", "images"))
    assert value(by_file) == pytest.approx(value(by_images), rel=1e-9)
    capfd.readouterr()
    assert run("statistics", file, "--out", tmp_path / "again.npz") == 2
    assert "statistics file already" in capfd.readouterr().err
    assert run("statistics", sets["real"], "--out", tmp_path / "x.txt") == 2
    assert "must end in .npz" in capfd.readouterr().err


def test_statistics_of_another_extractor_are_refused(
    sets: dict[str, Path], tmp_path: Path, inception_weights: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    file = tmp_path / "real.npz"
    assert run("statistics", sets["real"], "--out", file, "--features", "shapes-clip") == 0
    inception = ["--inception-weights", inception_weights, "--inception-layer", "64"]
    assert run("score", sets["blurred"], "--against", file, "--metrics", "fid", *inception) == 2
    error = capfd.readouterr().err.strip()
    assert "Statistics of another extractor" in error
    assert error.count("\n") == 0


def test_the_cache_is_shown_and_cleared(
    sets: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = tmp_path / "store"
    assert run("cache", "--store", store) == 0
    assert "No stored features" in capsys.readouterr().out
    assert run("score", sets["blurred"], "--against", sets["real"], *JUDGE, "--metrics", "fd",
               "--crop", "center", "--store", store) == 0  # fmt: skip
    capsys.readouterr()
    assert run("cache", "--store", store) == 0
    said = capsys.readouterr().out
    assert "shapes-clip" in said
    assert said.count(f" {N} ") == 2, "samples as they are, the reference cropped"
    assert run("cache", "--store", store, "--clear") == 0
    assert FeatureStore(store).contents() == []


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["compare", "sharp", "--against", "real"], "at least 2 sets, got 1."),
        (["compare", "a=sharp", "a=blurred", "--against", "real"], "Two sets are called 'a'"),
        (["compare", "sharp", "blurred"], "No reference"),
        (["compare", "sharp", "nowhere", "--against", "real"], "nowhere"),
        (["plan", "fid", "sharp", "--against", "real", "--difference", "0"], "not positive"),
        (["score", "sharp", "--against", "real", "--filter", "cubic"], "--filter 'cubic'"),
        (["score", "sharp", "--against", "real", "--sample-crop", "squash"], "--sample-size"),
        (["score", "sharp", "--against", "real", "--neighbours", "3;5"], "--neighbours"),
    ],
)
def test_a_fault_is_one_line(
    sets: dict[str, Path], arguments: list[str], complaint: str,
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(sets["real"].parent)
    assert run(*arguments, "--features", "shapes-clip") == 2
    error = capfd.readouterr().err.strip()
    assert complaint in error
    assert error.count("\n") == 0


def test_runs_on_shapes_are_compared_by_what_they_show_and_how_fast(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(shapes, "load_shapes", partial(shapes.load_shapes, num_images=30))
    for name, model in (("trained", "glide:tiny"), ("untrained", "glide:tiny-untrained")):
        assert run(
            "generate", "--model", model, "--data", "shapes", "--n", 9, "--batch-size", 3,
            "--steps", "base=8", "--guidance", 3, "--out", tmp_path / name,
        ) == 0  # fmt: skip
    trained, untrained = tmp_path / "trained", tmp_path / "untrained"
    sets = [f"trained={trained}", f"untrained={untrained}"]
    assert run("compare", *sets, *JUDGE, "--html", tmp_path / "page.html",
               "--json", tmp_path / "default.json") == 0  # fmt: skip
    asked = {record.metric for record in read_records(tmp_path / "default.json")}
    assert {"fd", "clip-score", "composition-pairs", "composition-pairs-difference"} <= asked
    assert {"images-per-second", "recall-k3"} <= asked, "what the chart needs"
    assert not {"recall-k3-difference", "precision-k3"} & asked, "and nothing more"
    assert 'id="trilemma"' in (tmp_path / "page.html").read_text()
    assert "Where untrained is furthest behind" in (tmp_path / "page.html").read_text()
    capsys.readouterr()
    assert run("compare", *sets, *JUDGE, "--metrics", "images-per-second,composition",
               "--html", tmp_path / "page.html",
               "--json", tmp_path / "named.json") == 0  # fmt: skip
    records = {(r.subject, r.metric): r for r in read_records(tmp_path / "named.json")}
    assert ("trained", "fd") not in records
    for name in ("trained", "untrained"):
        speed, found = (records[name, m] for m in ("images-per-second", "composition-pairs"))
        assert speed.interval is not None
        assert speed.interval.low < value(speed) < speed.interval.high
        assert (speed.n, found.n) == (9, 9)
    difference = records["trained - untrained", "composition-pairs-difference"]
    gap = value(records["trained", "composition-pairs"])
    gap -= value(records["untrained", "composition-pairs"])
    assert value(difference) == pytest.approx(gap)
    assert difference.details["shared_ids"] == 9
    assert "Images per second" in capsys.readouterr().out
    assert run("score", trained, "--against", "shapes", *JUDGE, "--metrics", "composition",
               "--json", tmp_path / "one.json") == 0  # fmt: skip
    alone = by_metric(tmp_path / "one.json")["composition-pairs"]
    assert alone.value == records["trained", "composition-pairs"].value
