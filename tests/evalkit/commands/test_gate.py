"""`evalkit gate` as CI meets it: every exit code, and no way for an error to pass."""

from __future__ import annotations

import json
import shutil
import sys
from functools import partial
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from evalkit.core.results import read_records
from evalkit.core.run import RunFolder
from evalkit.datasets.shapes import dataset as shapes
from tests.evalkit.commands.test_commands import run

N = 24
FULL_SHAPES = shapes.load_shapes
WIDE = ["--margin", "clip-score=60", "--margin", "composition-pairs=0.9"]


@pytest.fixture(autouse=True)
def in_a_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "argv", sys.argv)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    _with_few_shapes(monkeypatch)


def _with_few_shapes(patch: pytest.MonkeyPatch) -> None:
    """Draw 30 images where the data set has 5,000; each test has an empty cache."""
    patch.setattr(shapes, "load_shapes", partial(FULL_SHAPES, num_images=30))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run, the same with another sampler's steps, and one of other captions."""
    root = tmp_path_factory.mktemp("runs")
    arguments = ["--model", "glide:tiny", "--data", "shapes"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", sys.argv)
        patch.setenv("EVALKIT_CACHE", str(root / "cache"))
        _with_few_shapes(patch)
        for name, steps, n in (("base", 4, N), ("cand", 3, N), ("fewer", 4, N - 1)):
            assert run("generate", *arguments, "--steps", f"base={steps},upsampler=2",
                       "--n", str(n), "--out", root / name) == 0  # fmt: skip
    return root


@pytest.fixture
def runs(made: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    shutil.copytree(made, tmp_path / "runs")
    return tmp_path / "runs"


def gate(runs: Path, *more: str | Path, candidate: str = "cand") -> int:
    return run("gate", runs / candidate, "--baseline", runs / "base", *more)


def document(path: str = "g.json") -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path(path).read_text("utf-8"))
    return found


FILES = ["--json", "g.json", "--markdown", "g.md", "--junit", "g.xml"]


class TestExitCodes:
    def test_passed(self, runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert gate(runs, *WIDE, "--bound", "psnr=5", *FILES) == 0
        assert "Passed: every requirement holds." in capsys.readouterr().out
        found = document()
        assert (found["verdict"], found["exit_code"], found["num_images"]) == ("passed", 0, N)
        assert {one["level"] for one in found["requirements"]} == {0.9}
        assert "# Gate: passed" in Path("g.md").read_text("utf-8")
        assert not ElementTree.parse("g.xml").findall(".//failure")

    def test_exports_hold_the_records_and_what_was_required(self, runs: Path) -> None:
        files = ["e.json", "e.csv", "e.html", "e.md", "e.tex"]
        exports = [part for file in files for part in ("--export", file)]
        assert gate(runs, *WIDE, "--bound", "psnr=60", *FILES, *exports) == 1
        records = {record.metric: record for record in read_records(Path("e.json"))}
        assert records["psnr"].details["verdict"] == "failed"
        estimates = {one["metric"]: one["estimate"] for one in document()["requirements"]}
        assert records["psnr"].value == estimates["psnr"]
        assert records["clip-score-difference"].value == estimates["clip-score"]
        for file in files[1:]:
            text = Path(file).read_text("utf-8")
            assert "psnr" in text.lower(), file
        assert "failed" in Path("e.html").read_text("utf-8")

    def test_an_export_of_no_format_is_refused_before_the_work(self, runs: Path) -> None:
        assert gate(runs, *WIDE, "--export", "e.xlsx") == 2

    def test_failed(self, runs: Path) -> None:
        assert gate(runs, *WIDE, "--bound", "psnr=60", *FILES) == 1
        verdicts = {one["metric"]: one["verdict"] for one in document()["requirements"]}
        assert (verdicts["psnr"], verdicts["clip-score"]) == ("failed", "passed")

    def test_undecided_with_the_number_that_would_decide(
        self, runs: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert gate(runs, *WIDE, *FILES) == 0
        (clip, _) = document()["requirements"]
        inside = (clip["estimate"] + clip["low"]) / 2  # between the limit and the estimate
        capsys.readouterr()
        kind = "--margin" if inside < 0 else "--superior"
        assert gate(runs, kind, f"clip-score={abs(inside)}", *FILES) == 4
        (found,) = document()["requirements"]
        assert found["verdict"] == "undecided"
        assert found["images_to_decide"] > N
        assert f"about {found['images_to_decide']:,} images per run" in capsys.readouterr().out

    def test_not_measured_for_missing_weights(self, runs: Path) -> None:
        assert gate(runs, *WIDE, "--clip-model", "ViT-B/32", *FILES) == 3
        verdicts = {one["metric"]: one for one in document()["requirements"]}
        assert "not cached" in verdicts["clip-score"]["reason"]
        assert verdicts["composition-pairs"]["verdict"] == "passed"
        assert ElementTree.parse("g.xml").findall(".//error")
        assert gate(runs, *WIDE[:2], "--clip-model", "ViT-B/32") == 3

    def test_not_measured_for_a_request_without_an_image(
        self, runs: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        manifest = runs / "cand" / "manifest.jsonl"
        rows = [json.loads(line) for line in manifest.read_text("utf-8").splitlines()]
        rows[5] |= {"file": None, "sha256": None, "status": "failed", "reason": "NaN in stage base"}
        manifest.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
        assert gate(runs, *WIDE, *FILES) == 3
        assert document()["verdict"] == "not measured"
        assert "1 of 24 requests of" in capsys.readouterr().out.replace("\n", " ")

    def test_not_measured_for_a_record_that_does_not_exist(self, runs: Path) -> None:
        assert gate(runs, "--margin", "composition=1") == 2
        assert gate(runs, "--margin", "fid-infinity=1", "--features", "shapes-clip") == 2
        assert gate(runs, "--margin", "fd-infinity=1", *FILES) == 3
        assert "not estimable" in document()["requirements"][0]["reason"]

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            ([], "A gate needs a requirement"),
            (["--margin", "clip-score"], "--margin expects METRIC=NUMBER"),
            (["--margin", "clip-score=-1"], "greater than 0"),
            (["--margin", "fidd=1"], "fid"),
            (["--margin", "psnr=1"], "--bound psnr=NUMBER"),
            ([*WIDE, "--alpha", "5"], "write 5 % as 0.05"),
            ([*WIDE, "--junit", "."], "is a folder"),
            ([*WIDE, "--gate", "none.toml"], "write it into the file"),
        ],
    )
    def test_bad_input_is_one_line(
        self, runs: Path, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert gate(runs, *arguments) == 2
        error = capsys.readouterr().err.strip().splitlines()[-1]
        assert said in error

    def test_other_captions_and_missing_runs(
        self, runs: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert gate(runs, *WIDE, candidate="fewer") == 2
        assert "images of the same captions" in capsys.readouterr().err
        assert gate(runs, *WIDE, candidate="nowhere") == 2
        assert gate(runs, *WIDE, candidate="base") == 2
        assert "is the baseline itself" in capsys.readouterr().err
        assert run("gate", runs / "cand", *WIDE) == 2
        assert "No baseline" in capsys.readouterr().err

    def test_a_deleted_or_altered_image(self, runs: Path) -> None:
        folder = RunFolder.read(runs / "cand")
        image = folder.image_path(folder.rows()[3])
        content = image.read_bytes()
        image.write_bytes(content + b"x")
        assert gate(runs, *WIDE, *FILES) == 2
        image.unlink()
        assert gate(runs, *WIDE, *FILES) == 2
        assert document()["verdict"] == "not finished"
        image.write_bytes(content)
        assert gate(runs, *WIDE, *FILES) == 0


def fault() -> None:
    raise RuntimeError("a bug")


TARGETS = [
    "evalkit.commands.gating.chosen_gate",
    "evalkit.commands.gate.open_samples",
    "evalkit.commands.gate._missing_images",
    "evalkit.commands.gate._refuse_other_requests",
    "evalkit.commands.gate._reference",
    "evalkit.commands.gate.kept_samples",
    "evalkit.commands.gate.Scorer.prepare",
    "evalkit.commands.gate.paired_differences",
    "evalkit.commands.gate._of",
    "evalkit.commands.gate.judge",
    "evalkit.commands.gate._print",
    "evalkit.gate.outputs.overall",
    "evalkit.gate.outputs.write_atomically",
    "evalkit.gate.outputs.junit",
    "evalkit.metrics.clip_score.clip_cosines",
    "evalkit.metrics.pairing.mean_interval",
    "evalkit.features.store.FeatureStore.open",
]


ERRORS = [AssertionError, KeyError, OSError, SystemError, ZeroDivisionError, StopIteration]
CRASHES = [
    *((target, RuntimeError) for target in TARGETS),
    *(("evalkit.commands.gate.judge", error) for error in ERRORS),
]


class TestCrashes:
    @pytest.mark.parametrize(("target", "error"), CRASHES)
    def test_a_bug_exits_with_70_and_its_traceback(
        self, made: Path, target: str, error: type[Exception],
        monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str],
    ) -> None:  # fmt: skip
        def broken(*arguments: object, **more: object) -> None:
            raise error("a bug")

        monkeypatch.setattr(target, broken)
        assert gate(made, *WIDE, *FILES) == 70
        assert "Traceback" in capfd.readouterr().err
        if Path("g.json").is_file():
            assert document()["exit_code"] is None

    def test_scores_that_are_nan(self, made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def nan(*arguments: object, **more: object) -> np.ndarray:
            return np.full(N, np.nan)

        monkeypatch.setattr("evalkit.metrics.clip_score.clip_cosines", nan)
        assert gate(made, *WIDE[:2], *FILES) == 70

    def test_a_record_that_is_nan(self, made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        from evalkit.metrics import comparison

        def altered(*arguments: Any) -> Any:
            records = comparison.paired_differences(*arguments)
            for record in records:
                object.__setattr__(record, "value", float("nan"))
            return records

        monkeypatch.setattr("evalkit.commands.gate.paired_differences", altered)
        assert gate(made, *WIDE, *FILES) == 70
        assert document()["exit_code"] is None

    def test_a_result_of_before_is_not_left(
        self, made: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert gate(made, *WIDE, *FILES) == 0
        monkeypatch.setattr("evalkit.commands.gate.judge", lambda *x, **y: fault())
        assert gate(made, *WIDE, *FILES) == 70
        assert document()["verdict"] == "not finished"
        assert ElementTree.parse("g.xml").findall(".//error")


class TestVariants:
    def test_equal_images_pass_whatever_the_margin(self, made: Path, tmp_path: Path) -> None:
        again = tmp_path / "again"
        shutil.copytree(made / "base", again)
        small = ["--margin", "clip-score=1e-9", "--bound", "psnr=80", "--bound", "ssim=0.999"]
        assert run("gate", again, "--baseline", made / "base", *small, *FILES) == 0
        psnr = next(one for one in document()["requirements"] if one["metric"] == "psnr")
        assert psnr["estimate"] == pytest.approx(89, abs=0.1)

    def test_the_direction_is_the_metrics_own(self, made: Path) -> None:
        """What is so much better one way is so much worse the other way."""
        both = {}
        for name, pair in {"there": ("cand", "base"), "back": ("base", "cand")}.items():
            code = run("gate", made / pair[0], "--baseline", made / pair[1],
                       "--superior", "clip-score=0.001", "--json", f"{name}.json")  # fmt: skip
            assert code in (0, 1, 4)
            (both[name],) = document(f"{name}.json")["requirements"]
        assert both["there"]["estimate"] == pytest.approx(-both["back"]["estimate"])
        assert both["there"]["low"] == pytest.approx(-both["back"]["high"])

    def test_a_smaller_alpha_widens_the_interval(self, made: Path) -> None:
        widths = []
        for alpha in ("0.05", "0.01"):
            assert gate(made, *WIDE[:2], "--alpha", alpha, "--json", "g.json") == 0
            (clip,) = document()["requirements"]
            widths.append(clip["high"] - clip["low"])
            assert clip["level"] == pytest.approx(1 - 2 * float(alpha))
        assert widths[1] > 1.3 * widths[0]

    def test_a_file_is_the_same_gate(self, made: Path) -> None:
        Path("gate.toml").write_text(
            f'baseline = "{made / "base"}"\n[margins]\nclip-score = 60.0\n'
            '[measure]\nclip-model = "shapes-clip"\n'
        )
        assert gate(made, *WIDE[:2], "--json", "a.json") == 0
        assert run("gate", made / "cand", "--gate", "gate.toml", "--json", "b.json") == 0
        assert document("a.json")["requirements"] == document("b.json")["requirements"]

    def test_options_against_the_file_are_refused(
        self, made: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        Path("gate.toml").write_text(
            '[margins]\nclip-score = 60.0\n[measure]\nclip-model = "shapes-clip"\n'
        )
        assert gate(made, "--gate", "gate.toml", "--clip-model", "ViT-B/32") == 2
        assert "The gate's file says clip-model" in capsys.readouterr().err
        assert gate(made, "--gate", "gate.toml", "--alpha", "0.2") == 2

    def test_two_metrics_of_which_one_must_be_better(self, made: Path) -> None:
        of_any = ["--superior-any", "clip-score", "--superior-any", "composition-objects"]
        assert gate(made, *of_any, "--json", "g.json") in (0, 1, 4)
        found = document()["requirements"]
        assert all(one["p_holm"] is not None for one in found)

    @pytest.mark.parametrize("margin", ["clip-score=60", "clip-score=0.0001"])
    def test_the_same_gate_again_says_the_same(self, made: Path, margin: str) -> None:
        codes = [gate(made, "--margin", margin, "--json", f"{i}.json") for i in range(2)]
        assert codes[0] == codes[1]
        assert Path("0.json").read_bytes() == Path("1.json").read_bytes()


class TestPlan:
    def plan(self, *more: str | Path) -> int:
        return run("plan", "gate", *more, "--json", "p.json")

    def test_from_two_pilots(self, made: Path, capsys: pytest.CaptureFixture[str]) -> None:
        pilots = [made / "cand", "--baseline", made / "base"]
        assert self.plan(*pilots, "--margin", "clip-score=2", "--n", "500") == 0
        wide = document("p.json")
        assert self.plan(*pilots, "--margin", "clip-score=1") == 0
        narrow = document("p.json")
        assert narrow["n"] == pytest.approx(4 * wide["n"], rel=0.1)
        assert wide["power_at_n"]["n"] == 500
        assert f"{narrow['n']:,} images per run" in capsys.readouterr().out

    def test_from_a_standard_deviation_by_hand(self) -> None:
        """(1.645 + 0.842)^2 (3 / 0.2)^2 = 1391.1."""
        assert self.plan("--margin", "clip-score=0.2", "--sd", "clip-score=3") == 0
        assert document("p.json")["n"] == 1392

    def test_several_margins_need_more_than_each(self) -> None:
        both = ["--margin", "clip-score=0.2", "--margin", "fid-infinity=0.2"]
        assert self.plan(*both, "--sd", "clip-score=3", "--sd", "fid-infinity=3") == 0
        assert document("p.json")["n"] > 1392

    def test_a_true_difference_at_the_margin_is_never_enough(self) -> None:
        worse = ["--difference", "clip-score=-0.2"]
        assert self.plan("--margin", "clip-score=0.2", "--sd", "clip-score=3", *worse) == 0
        assert document("p.json")["n"] is None

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (["--margin", "clip-score=1"], "No pilot"),
            (["--margin", "clip-score=1", "--sd", "kid=1"], "which the gate does not require"),
            (["--margin", "clip-score=1", "--sd", "clip-score=0"], "is not positive"),
            (["--margin", "clip-score=1", "--sd", "clip-score=1", "--power", "2"], "Power 2"),
        ],
    )
    def test_bad_input_is_one_line(
        self, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert self.plan(*arguments) == 2
        assert said in capsys.readouterr().err

    def test_a_pilot_without_spread_is_refused(
        self, made: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        pilot = [made / "base", "--baseline", made / "base", "--margin", "clip-score=1"]
        assert self.plan(*pilot) == 2
        assert "do not differ at all" in capsys.readouterr().err


def test_a_metric_of_two_runs_is_refused_where_there_is_one(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run("fid", "--model", "glide:tiny", "--data", "shapes", "--n", "4", "--metrics",
               "psnr", "--out", "x") == 2  # fmt: skip
    assert "evalkit score RUN --against RUN --metrics psnr" in capsys.readouterr().err
