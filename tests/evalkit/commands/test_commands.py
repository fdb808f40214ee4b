"""The command line as a user meets it: measuring, resuming, and one line for every fault."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from evalkit import cli
from evalkit.core.results import ResultRecord, read_records
from evalkit.core.run import RunFolder

FEW = ["--steps", "base=3,upsampler=2", "--batch-size", "4"]
GLIDE = ["--model", "glide:tiny", *FEW]


def run(*arguments: str | Path) -> int:
    """Run a command in this process, as `evalkit` would, and give its exit code."""
    sys.argv = ["evalkit", *map(str, arguments)]
    try:
        cli.main()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


@pytest.fixture(autouse=True)
def keep_argv(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "argv", sys.argv)
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small `shapes` on disk."""
    from evalkit.datasets.shapes.dataset import write_shapes

    return write_shapes(tmp_path_factory.mktemp("shapes"), 0, 24)


def by_metric(path: Path) -> dict[str, ResultRecord]:
    return {record.metric: record for record in read_records(path)}


def test_the_main_job_on_real_photographs(
    coco_folder: Path, inception_weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, records_file = tmp_path / "run", tmp_path / "records.json"
    code = run(
        "fid", *GLIDE, "--coco", "--coco-root", coco_folder, "--n", 8, "--out", out,
        "--inception-weights", inception_weights, "--json", records_file,
    )  # fmt: skip
    assert code == 0
    records = by_metric(out / "results.json")
    fid = records["fid"]
    assert fid.value is not None
    assert fid.value > 0
    assert (fid.n, fid.fingerprint["num_reference"]) == (8, 12)
    assert fid.fingerprint["extractor"]["weights_note"] == "weights not the 2015 ones"
    assert fid.fingerprint["training_relation"] == "zero-shot"
    assert (fid.fingerprint["crop"], fid.fingerprint["size_px"]) == ("center", 256)
    assert fid.interval is None
    assert "not estimable" in fid.reason
    assert records["clip-score"].state == "failed"
    assert "weights not the 2015 ones" in (out / "report.html").read_text()
    assert (out / "results.csv").read_text().count("\n") == len(records) + 1
    assert records_file.read_text() == (out / "results.json").read_text()
    said = capsys.readouterr().out
    assert "GLIDE (tiny)" in said
    assert said.index("Skipping clip-score: CLIP weights") < said.index("Report:")


def test_a_folder_of_shapes_is_measured_as_shapes(tmp_path: Path, drawn: Path) -> None:
    """Whatever it is called: at its own size, with the judge and the scenes, and not zero-shot."""
    out = tmp_path / "run"
    assert run("fid", *GLIDE, "--data", drawn, "--n", 6, "--features", "shapes-clip",
               "--out", out) == 0  # fmt: skip
    records = by_metric(out / "results.json")
    distance = records["fd"]
    assert distance.details["label"] == "FD (shapes-clip)"
    assert (distance.fingerprint["crop"], distance.fingerprint["size_px"]) == ("none", None)
    assert distance.fingerprint["training_relation"] == "trained on this data set"
    assert records["clip-score"].state == "ok"
    assert records["composition-pairs"].n == 6
    assert "fid" not in records


def test_a_folder_called_shapes_is_another_data_set(coco_folder: Path, tmp_path: Path) -> None:
    named, out = tmp_path / "shapes", tmp_path / "run"
    shutil.copytree(coco_folder, named)
    assert run("fid", *GLIDE, "--data", named, "--n", 4, "--features", "shapes-clip",
               "--clip-model", "shapes-clip", "--out", out) == 0  # fmt: skip
    records = by_metric(out / "results.json")
    assert records["fd"].fingerprint["dataset"] == "folder shapes"
    assert records["fd"].fingerprint["training_relation"] == "zero-shot"
    assert not [name for name in records if name.startswith("composition")]


def test_inception_is_asked_for_by_what_uses_it_only(tmp_path: Path, drawn: Path) -> None:
    """There are no Inception weights here."""
    out = tmp_path / "run"
    assert run("fid", *GLIDE, "--data", drawn, "--n", 4, "--metrics", "composition",
               "--out", out) == 0  # fmt: skip
    assert by_metric(out / "results.json")["composition-pairs"].state == "ok"


def test_a_killed_run_ends_as_an_undisturbed_one(tmp_path: Path, drawn: Path) -> None:
    command = ["generate", *GLIDE, "--data", str(drawn), "--n", "16", "--out"]
    assert run(*command, tmp_path / "whole") == 0
    whole = RunFolder.read(tmp_path / "whole")
    cut = tmp_path / "cut"
    process = subprocess.Popen(
        [sys.executable, "-m", "evalkit.cli", *command, str(cut)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 120
    while not list(cut.glob("images/*/*.png")) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    made = len(RunFolder.read(cut).rows())
    assert made < 16, "the kill came too late to prove anything"
    assert run(*command, cut) == 0
    resumed = RunFolder.read(cut)
    for ours, theirs in zip(resumed.rows(), whole.rows(), strict=True):
        assert ours == theirs
        assert resumed.image_path(ours).read_bytes() == whole.image_path(theirs).read_bytes()


@pytest.mark.parametrize(
    ("n", "steps"),
    [(6, "base=3,upsampler=2"), pytest.param(32, "base=25,upsampler=2", marks=pytest.mark.slow)],
)
def test_the_batch_size_moves_no_pixel_by_more_than_one(
    n: int, steps: str, tmp_path: Path, drawn: Path
) -> None:
    common = ["generate", "--model", "glide:tiny", "--data", drawn, "--steps", steps]
    for size in ("1", "32"):
        assert run(*common, "--n", n, "--batch-size", size, "--out", tmp_path / size) == 0
    runs = [RunFolder.read(tmp_path / size) for size in ("1", "32")]
    for one, many in zip(runs[0].rows(), runs[1].rows(), strict=True):
        pixels = [np.asarray(Image.open(r.image_path(row))).astype(int)
                  for r, row in zip(runs, (one, many), strict=True)]  # fmt: skip
        assert np.abs(pixels[0] - pixels[1]).max() <= 1


@pytest.mark.parametrize(
    "change", [["--guidance", "1"], ["--seed", "1"], ["--sampler", "ddim"],
               ["--steps", "base=4,upsampler=2"]]
)  # fmt: skip
def test_every_option_changes_the_images(tmp_path: Path, drawn: Path, change: list[str]) -> None:
    common = ["generate", *GLIDE, "--data", drawn, "--n", 4]
    assert run(*common, "--out", tmp_path / "a") == 0
    assert run(*common, *change, "--out", tmp_path / "b") == 0
    first, second = (
        {r.image_path(row).read_bytes() for row in r.rows()}
        for r in map(RunFolder.read, (tmp_path / "a", tmp_path / "b"))
    )
    assert not first & second


def test_score_measures_a_folder_against_a_folder(
    coco_folder: Path, inception_weights: Path, tmp_path: Path
) -> None:
    photos = coco_folder / "val2014"
    assert run("score", photos, "--against", photos, "--inception-weights", inception_weights,
               "--metrics", "fid", "--json", tmp_path / "r.json") == 0  # fmt: skip
    assert by_metric(tmp_path / "r.json")["fid"].value == pytest.approx(0, abs=1e-6)


def test_score_takes_a_run_folder_and_report_renders_it_again(tmp_path: Path, drawn: Path) -> None:
    out = tmp_path / "run"
    judge = ["--features", "shapes-clip", "--clip-model", "shapes-clip"]
    assert run("fid", *GLIDE, "--data", drawn, "--n", 6, *judge, "--out", out) == 0
    page = (out / "report.html").read_text()
    (out / "report.html").unlink()
    assert run("report", out) == 0
    assert (out / "report.html").read_text() == page
    assert run("score", out, "--against", drawn, *judge, "--crop", "none",
               "--json", tmp_path / "r.json") == 0  # fmt: skip
    assert by_metric(tmp_path / "r.json")["clip-score"].n == 6


def test_the_demo_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str],
                       monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    from evalkit.commands import demo
    from evalkit.datasets.shapes import dataset as shapes

    monkeypatch.setattr(shapes, "load_shapes", partial(shapes.load_shapes, num_images=30))
    demo.demo(tmp_path / "demo", 4)
    said = capsys.readouterr().out
    assert "report.html" in said
    assert "FD (shapes-clip)" in said


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["fid", "--model", "glide:tinny", "--data", "shapes"], "did you mean 'glide:tiny'"),
        (["fid", "--model", "glide:tiny"], "exactly one of --coco, --data"),
        (["fid", *GLIDE, "--coco", "--data", "shapes"], "exactly one of --coco, --data"),
        (["generate", *GLIDE, "--data", "nowhere/at/all"], "no such folder"),
        (["generate", *GLIDE, "--data", "shape"], "did you mean 'shapes'"),
        (["fid", *GLIDE, "--data", "shapes", "--device", "cuda:9"], "no usable GPU"),
        (["generate", *GLIDE, "--data", "shapes", "--guidance", "upsampler=3"], "no guidance"),
        (["generate", "--model", "ddpm:tiny", "--data", "shapes", "--guidance", "3"],
         "it is unconditional"),
        (["fid", *GLIDE, "--data", "shapes", "--metrics", "composition", "--crop", "oval"],
         "Unknown --crop 'oval'"),
        (["fid", *GLIDE, "--data", "shapes", "--features", "shapes-clip", "--filter", "no"],
         "Unknown --filter 'no'"),
        (["fid", *GLIDE, "--data", "shapes", "--features", "shapes-clip", "--clip-variant", "no"],
         "Unknown CLIP score 'no'"),
        (["fid", *GLIDE, "--data", "shapes", "--features", "shapes-clip", "--metrics", "fid"],
         "or use fd."),
        (["generate", *GLIDE, "--data", "shapes", "--weights", "nonsense"], "NAME=PATH"),
        (["generate", *GLIDE, "--data", "shapes", "--weights", "x=y"], "no weights 'x'"),
        (["fid", *GLIDE, "--data", "shapes", "--metrics", "fd,compositon"], "mean 'composition'"),
        (["score", "nothing-here", "--against", "shapes"], "nothing-here"),
        (["report", "."], "is not a run folder"),
        (["train", "clip-tinny"], "did you mean 'clip-tiny'"),
    ],
)  # fmt: skip
def test_a_fault_is_one_line_and_exit_code_2(
    arguments: list[str], complaint: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(*arguments) == 2
    error = capfd.readouterr().err.strip()
    assert complaint in error
    assert error.count("\n") == 0
    assert "Traceback" not in error
    assert not list(tmp_path.rglob("run.json")), "nothing may be left half-written"


def test_more_captions_than_there_are(drawn: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run("generate", *GLIDE, "--data", drawn, "--n", 1000, "--out", "run") == 2
    error = capfd.readouterr().err.strip()
    assert "Can't draw 1000 captions" in error
    assert error.count("\n") == 0
    assert not Path("run").exists()


def test_a_program_may_call_main_often() -> None:
    """Each call used to add the commands of `drawbench` again, a tenth of a second more a time."""
    for _ in range(2):
        assert run("report", "nowhere") == 2
    assert [group.name for group in cli.app.registered_groups].count("drawbench") == 1


def test_missing_weights_say_where_to_put_them(
    drawn: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    started = time.monotonic()
    assert run("generate", "--model", "glide", "--data", drawn, "--n", 4) == 2
    error = capfd.readouterr().err
    assert time.monotonic() - started < 5
    for part in ("base.pt", "sha256", "put it at", "--weights glide-base=PATH", "glide:tiny"):
        assert part in error


def test_missing_inception_weights_stop_before_any_image(
    drawn: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    started = time.monotonic()
    features = ["--features", "inception"]
    assert run("fid", *GLIDE, "--data", drawn, "--n", 4, *features, "--out", tmp_path / "run") == 2
    assert time.monotonic() - started < 5
    assert "6726825d" in capfd.readouterr().err
    assert not (tmp_path / "run").exists()


def test_missing_coco_names_the_three_ways(capfd: pytest.CaptureFixture[str]) -> None:
    started = time.monotonic()
    assert run("generate", *GLIDE, "--coco") == 2
    assert time.monotonic() - started < 5
    error = capfd.readouterr().err
    for way in ("--coco-root", "EVALKIT_COCO", "evalkit data coco"):
        assert way in error


@pytest.mark.parametrize(
    ("option", "complaint"),
    [(["--resize", "none"], "none"), (["--inception-layer", "9"], "9"),
     (["--inception-weights", "README.md"], "README.md")],
)  # fmt: skip
def test_what_inception_cannot_do_is_told_before_any_image(
    option: list[str], complaint: str, inception_weights: Path, coco_folder: Path, tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    (tmp_path / "README.md").write_text("no network")
    weights = [] if "--inception-weights" in option else ["--inception-weights", inception_weights]
    assert run("fid", *GLIDE, "--data", coco_folder, "--n", 4, "--metrics", "fid", *weights,
               *option, "--out", tmp_path / "run") == 2  # fmt: skip
    error = capfd.readouterr().err.strip()
    assert complaint in error
    assert error.count("\n") == 0
    assert not list(tmp_path.glob("run/images"))


def test_a_truncated_reference_is_told_before_any_image(
    coco_folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    data, out = tmp_path / "data", tmp_path / "run"
    shutil.copytree(coco_folder, data)
    cut = sorted((data / "val2014").iterdir())[0]
    cut.write_bytes(cut.read_bytes()[:1500])
    command = ["fid", *GLIDE, "--data", data, "--n", 4, "--features", "shapes-clip",
               "--metrics", "fd", "--out", out]  # fmt: skip
    assert run(*command) == 2
    error = capfd.readouterr().err.strip()
    assert cut.name in error
    assert error.count("\n") == 0
    assert not (out / "images").exists()
    assert run(*command, "--skip-bad") == 0


def test_captions_of_one_id_are_refused(
    coco_folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data"
    shutil.copytree(coco_folder, data)
    file = data / "annotations" / "captions_val2014.json"
    read = json.loads(file.read_text())
    read["annotations"][1]["id"] = read["annotations"][0]["id"]
    file.write_text(json.dumps(read))
    assert run("generate", *GLIDE, "--coco", "--coco-root", data, "--n", 4) == 2
    error = capfd.readouterr().err.strip()
    assert str(read["annotations"][0]["id"]) in error
    assert error.count("\n") == 0
    assert not list(tmp_path.rglob("run.json"))


def test_a_truncated_image_is_named(
    coco_folder: Path, inception_weights: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    source = sorted((coco_folder / "val2014").iterdir())[0]
    bad = tmp_path / "bad"
    bad.mkdir()
    (bad / "cut.jpg").write_bytes(source.read_bytes()[:1500])
    assert run("score", bad, "--against", coco_folder / "val2014", "--metrics", "fid",
               "--inception-weights", inception_weights) == 2  # fmt: skip
    assert "cut.jpg" in capfd.readouterr().err


def test_an_empty_folder_is_refused(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    for command in (["score", tmp_path / "empty", "--against", "shapes"],
                    ["generate", *GLIDE, "--data", tmp_path / "empty"]):  # fmt: skip
        assert run(*command) == 2
        error = capfd.readouterr().err.strip()
        assert "empty" in error
        assert error.count("\n") == 0
    assert not list(tmp_path.rglob("run.json"))


def test_doctor_and_list_say_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["doctor"], ["list"], ["list", "metrics"], ["list", "datasets"],
                      ["list", "recipes"]):  # fmt: skip
        assert run(*arguments) == 0
    said = capsys.readouterr().out
    for name in ("glide:tiny", "clip-score", "coco", "glide-tiny-base", "device"):
        assert name in said


def test_shapes_are_measured_by_their_own_features_unless_others_are_named(
    drawn: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A folder of shapes stands for the protocol, too."""
    out = tmp_path / "records.json"
    assert run("score", drawn, "--against", drawn, "--json", out) == 0
    assert "Features: shapes-clip, the default of protocol shapes-1k;" in capsys.readouterr().out
    record = read_records(out)[0]
    assert record.metric == "fd"
    assert record.fingerprint["protocol"] == "shapes-1k"
    assert record.fingerprint["protocol_overrides"] == ["captions.count"]
    assert run(
        "score", drawn, "--against", drawn, "--features", "shapes-clip", "--crop", "center",
        "--size", "32", "--json", out,
    ) == 0  # fmt: skip
    assert "Features:" not in capsys.readouterr().out
    assert read_records(out)[0].fingerprint["protocol_overrides"] == [
        "captions.count", "reference.crop", "reference.size_px",
    ]  # fmt: skip


def test_a_protocol_names_the_reference(
    drawn: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run("score", drawn) == 2
    assert "--protocol that names its data set" in capfd.readouterr().err
    assert run("score", drawn, "--protocol", "imagen-30k") == 2
    assert "COCO val2014" in capfd.readouterr().err
    assert run("score", drawn, "--protocol", "imagen-3k") == 2
    assert "did you mean 'imagen-30k'" in capfd.readouterr().err


def test_a_folder_of_shapes_needs_no_inception(drawn: Path, tmp_path: Path) -> None:
    """The protocol is known before the data set is opened."""
    assert run("fid", *GLIDE, "--data", drawn, "--n", "4", "--out", tmp_path / "run") == 0
    record = read_records(tmp_path / "run" / "results.json")[0]
    assert (record.metric, record.fingerprint["protocol"]) == ("fd", "shapes-1k")
    assert record.fingerprint["protocol_overrides"] == ["captions.count"]
    assert "protocol" not in RunFolder.read(tmp_path / "run").config
