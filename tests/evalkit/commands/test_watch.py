"""`evalkit watch`: each checkpoint once, when it is finished, and resumed after a kill."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from evalkit.analyses.watch import folders, read_checkpoint, tree_times
from evalkit.analyses.watch_table import settings_of
from evalkit.commands import watch as watching
from evalkit.core.errors import ConfigError, IncompleteError, OutputError
from evalkit.core.results import ResultRecord, read_records
from evalkit.core.run import RunFolder
from evalkit.options import MeasureOptions
from tests.evalkit.commands.test_commands import drawn, run

__all__ = ["drawn"]

OPTIONS = MeasureOptions(metrics=("fd", "kid"), features="shapes-clip", kid_subsets=2)
AT_ONCE = watching.WatchOptions(once=True, settle_s=0)
NUM = 6
OF_ANOTHER_COMMAND = (
    '{"schema_version": 1, "records": [{"metric": "fd", "value": 1.0, "n": 6, "direction": "lower",'
    ' "reason": "", "subject": "step-200"}]}'
)


def fill(folder: Path, seed: int, num: int = NUM) -> Path:
    """A folder of noise."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    for index in range(num):
        Image.fromarray(rng.integers(0, 256, (16, 16, 3), np.uint8)).save(folder / f"{index}.png")
    return folder


@pytest.fixture
def training(tmp_path: Path) -> Path:
    """Two checkpoints' samples, and a folder that is none."""
    root = tmp_path / "samples"
    fill(root / "step-1000", 1)
    fill(root / "step-200", 2)
    (root / "logs").mkdir()
    fill(root / ".hidden", 3)
    return root


@pytest.fixture
def reference(tmp_path: Path) -> str:
    return str(fill(tmp_path / "reference", 0, 12))


def watch(root: Path, reference: str | None, **given: Any) -> list[ResultRecord]:
    chosen: dict[str, Any] = {"options": OPTIONS, "how": AT_ONCE, "out": None, "coco_root": None}
    return watching.watch(root, reference, **{**chosen, **given})


def rows(root: Path) -> dict[str, dict[str, str]]:
    with (root / "watch.csv").open(newline="") as file:
        return {row["checkpoint"]: row for row in csv.DictReader(file)}


def test_a_row_for_each_checkpoint_in_the_order_of_steps(
    training: Path, reference: str, capsys: pytest.CaptureFixture[str]
) -> None:
    records = watch(training, reference)
    found = rows(training)
    assert list(found) == ["step-200", "step-1000"]
    assert [row["step"] for row in found.values()] == ["200", "1000"]
    assert read_records(training / "watch.json") == records
    kid = next(r for r in records if (r.subject, r.metric) == ("step-1000", "kid-full"))
    assert kid.interval is not None
    assert kid.fingerprint["step"] == 1000
    assert float(found["step-1000"]["kid-full"]) == kid.value
    assert float(found["step-1000"]["kid-full.low"]) == kid.interval.low
    assert float(found["step-1000"]["kid-full.high"]) == kid.interval.high
    assert "not estimable" in found["step-1000"]["fd-infinity.reason"]
    said = capsys.readouterr().out
    assert said.index("step-200 (n = 6): FD (shapes-clip)") < said.index("step-1000 (n = 6): FD")
    assert "logs" not in said


def test_the_numbers_are_those_of_score(training: Path, reference: str, tmp_path: Path) -> None:
    watch(training, reference)
    file = tmp_path / "score.json"
    assert run("score", training / "step-200", "--against", reference, "--features", "shapes-clip",
               "--metrics", "fd,kid", "--kid-subsets", 2, "--json", file) == 0  # fmt: skip
    ours = [r for r in read_records(training / "watch.json") if r.subject == "step-200"]
    for one, other in zip(ours, read_records(file), strict=True):
        assert (one.metric, one.value, one.interval) == (other.metric, other.value, other.interval)
        assert one.fingerprint["samples_sha256"] == other.fingerprint["samples_sha256"]
        assert one.fingerprint["reference_sha256"] == other.fingerprint["reference_sha256"]


def test_the_reference_is_read_once(
    training: Path, reference: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Any] = []
    original = watching.Scorer.of
    monkeypatch.setattr(watching.Scorer, "of", lambda *a, **o: made.append(a) or original(*a, **o))
    watch(training, reference)
    assert len(made) == 1


def test_the_same_command_measures_only_what_is_new(
    training: Path, reference: str, capsys: pytest.CaptureFixture[str]
) -> None:
    watch(training, reference)
    capsys.readouterr()
    fill(training / "step-3000", 4)
    watch(training, reference)
    said = capsys.readouterr().out
    assert "step-3000 (n = 6)" in said
    assert "step-200 (" not in said
    assert list(rows(training)) == ["step-200", "step-1000", "step-3000"]
    capsys.readouterr()
    watch(training, reference)
    assert "(n = " not in capsys.readouterr().out


def test_records_of_unknown_options_are_not_overwritten(training: Path, reference: str) -> None:
    watch(training, reference)
    (training / "watch.options.json").unlink()
    with pytest.raises(ConfigError, match="not known how it was measured"):
        watch(training, reference)
    assert len(rows(training)) == 2


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("watch.json", "{"),
        ("watch.json", '{"schema_version": 1, "records": 3}'),
        ("watch.json", OF_ANOTHER_COMMAND),
        ("watch.options.json", "[1]"),
        ("watch.options.json", "{"),
    ],
)
def test_damaged_files_are_one_line(
    training: Path, reference: str, file: str, content: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("watch.json", "watch.options.json"):
        (training / name).write_text('{"schema_version": 1, "records": []}')
    words = ["--against", reference, "--metrics", "fd", "--features", "shapes-clip", "--once"]
    settings = settings_of(
        reference, MeasureOptions(metrics=("fd",), features="shapes-clip",
                                  typed=frozenset({"metrics", "features"}))
    )  # fmt: skip
    (training / "watch.options.json").write_text(json.dumps(settings))
    assert run("watch", training, *words, "--settle", 3600) == 0
    (training / file).write_text(content)
    capsys.readouterr()
    assert run("watch", training, *words) == 2
    assert file.split(".")[0] in (error := capsys.readouterr().err.strip())
    assert len(error.splitlines()) == 1


def test_reference_and_output_may_lie_in_the_folder(training: Path) -> None:
    inside = fill(training / "real-7", 0, 12)
    out = training / "table-8"
    watch(training, str(inside), out=out)
    assert list(rows(out)) == ["step-200", "step-1000"]


def test_other_options_are_refused(training: Path, reference: str, tmp_path: Path) -> None:
    watch(training, reference)
    with pytest.raises(ConfigError, match=r"measured with level 0.95.*--out"):
        watch(training, reference, options=MeasureOptions(**{**vars_of(OPTIONS), "level": 0.9}))
    with pytest.raises(ConfigError, match="measured with against"):
        watch(training, str(fill(tmp_path / "other", 9)))
    # What changes no number may differ.
    watch(training, reference, options=MeasureOptions(**{**vars_of(OPTIONS), "batch_size": 2}))


def vars_of(options: MeasureOptions) -> dict[str, Any]:
    return {k: v for k, v in vars(options).items() if k in ("metrics", "features", "kid_subsets")}


class TestFinished:
    """When a folder counts as finished."""

    def test_time_without_a_change(self, training: Path) -> None:
        checkpoint = read_checkpoint(training / "step-200")
        ask = {"marker": "DONE", "settle_s": 60.0}
        changed = checkpoint.changed_at
        assert checkpoint.why_unfinished(**ask, now=changed + 59) == "changed 59 s ago"  # type: ignore[arg-type]
        assert checkpoint.why_unfinished(**ask, now=changed + 60) == ""  # type: ignore[arg-type]
        # A clock that is behind makes nothing finished.
        assert checkpoint.why_unfinished(**ask, now=changed - 9) == "changed 0 s ago"  # type: ignore[arg-type]

    def test_an_old_time_of_content_is_a_copy_in_progress(self, training: Path) -> None:
        """Tools that copy set an image's old time, but not when it arrived."""
        for path in (training / "step-200").glob("*"):
            os.utime(path, (0, 0))
        assert time.time() - read_checkpoint(training / "step-200").changed_at < 60

    def test_a_marker(self, training: Path) -> None:
        (training / "step-200" / "DONE").touch()
        checkpoint = read_checkpoint(training / "step-200")
        assert not checkpoint.why_unfinished(marker="DONE", settle_s=1e9, now=time.time())
        assert checkpoint.why_unfinished(marker="READY", settle_s=1e9, now=time.time())

    def test_a_run_by_its_manifest_however_old(self, tmp_path: Path) -> None:
        path = tmp_path / "step-5"
        run_folder = RunFolder.create_or_resume(path, {"dataset": {"n": 2}})
        checkpoint = read_checkpoint(path)
        assert checkpoint.is_run
        assert checkpoint.why_unfinished(marker="DONE", settle_s=0, now=1e12) == "0 of 2 images"
        row = {
            "caption_id": "0", "sample_index": 0, "seed": 0, "prompt": None, "label": None,
            "image_id": None, "file": None, "sha256": None, "status": "failed", "reason": "x",
            "notes": [],
        }  # fmt: skip
        lines = [json.dumps({"index": index, **row}) for index in range(2)]
        run_folder.manifest_path.write_text("\n".join(lines) + "\n")
        assert not read_checkpoint(path).why_unfinished(marker="DONE", settle_s=1e9, now=0)

    def test_once_says_what_it_leaves_out(
        self, training: Path, reference: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (training / "step-200" / "DONE").touch()
        watch(training, reference, how=watching.WatchOptions(once=True, settle_s=3600))
        said = capsys.readouterr().out
        assert "step-1000: not finished (changed" in said
        assert list(rows(training)) == ["step-200"]

    def test_names_and_folders(self, training: Path) -> None:
        assert [path.name for path in folders(training)] == ["step-200", "step-1000", "logs"]

    def test_a_changed_tree_is_noticed(self, training: Path) -> None:
        before = tree_times(training / "step-200")
        time.sleep(0.02)
        fill(training / "step-200" / "more", 5)
        assert tree_times(training / "step-200") != before


def test_a_watcher_waits_for_checkpoints_and_stops_when_there_are_enough(
    training: Path, reference: str
) -> None:
    waits = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 2:
            fill(training / "step-3000", 4)
        assert len(waits) < 5

    how = watching.WatchOptions(until=3, every_s=7.0, settle_s=0)
    watch(training, reference, how=how, sleep=sleep)
    assert waits == [7.0, 7.0]
    assert len(rows(training)) == 3


def test_what_was_measured_too_early_is_measured_again(
    training: Path, reference: str, capsys: pytest.CaptureFixture[str]
) -> None:
    watch(training, reference)
    fill(training / "step-1000", 8, NUM + 2)
    watch(training, reference)
    assert "step-1000 (n = 8, measured again)" in capsys.readouterr().out
    assert rows(training)["step-1000"]["n"] == "8"
    assert len(rows(training)) == 2


def test_a_broken_checkpoint_fails_alone_and_is_tried_by_the_next_command(
    training: Path, reference: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (training / "step-200" / "0.png").write_bytes(b"\x89PNG\r\n\x1a\nhalf")
    with pytest.raises(IncompleteError, match=r"1 of 2 checkpoints.*step-200.*can't be decoded"):
        watch(training, reference)
    found = rows(training)
    assert float(found["step-1000"]["fd"]) > 0
    assert "step-200 (n = 6): " in capsys.readouterr().out
    fill(training / "step-200", 2)
    watch(training, reference)
    assert float(rows(training)["step-200"]["fd"]) > 0


def test_a_broken_reference_ends_the_command(training: Path, reference: str) -> None:
    (Path(reference) / "0.png").write_bytes(b"none")
    with pytest.raises(ConfigError, match="can't be decoded"):
        watch(training, reference)
    assert not (training / "watch.csv").exists()


def test_two_watchers_of_one_table_are_refused(training: Path, reference: str) -> None:
    with (
        watching._only_watcher(training),
        pytest.raises(OutputError, match="another evalkit watch"),
    ):
        watch(training, reference)


def test_a_missing_reference_is_said_before_there_is_a_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No reference, but fd needs one"):
        watch(tmp_path, None, how=watching.WatchOptions(), sleep=pytest.fail)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--against", "nothing"), "nothing"),
        (("--metrics", "fd"), "fd needs one"),
        (("--metrics", "fdd"), "did you mean"),
        (("--against", "REFERENCE", "--metrics", "fid"), "Inception weights"),
        (("--against", "REFERENCE", "--log-to", "tensorbord"), "did you mean 'tensorboard'"),
    ],
)
def test_mistakes_are_one_line(
    training: Path, reference: str, words: tuple[str, ...], said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    given = [reference if word == "REFERENCE" else word for word in words]
    assert run("watch", training, "--once", "--settle", "0", *given) == 2
    error = capsys.readouterr().err.strip()
    assert said in error
    assert len(error.splitlines()) == 1
    assert not (training / "watch.csv").exists()


def test_no_folder_and_no_checkpoint(
    tmp_path: Path, reference: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("watch", tmp_path / "none", "--once") == 2
    (tmp_path / "empty").mkdir()
    assert run("watch", tmp_path / "empty", "--once", "--against", reference,
               "--metrics", "fd", "--features", "shapes-clip") == 0  # fmt: skip
    assert "no finished checkpoint" in capsys.readouterr().out


def test_runs_are_measured_with_their_captions(tmp_path: Path, drawn: Path) -> None:
    """A checkpoint may be a run folder: then captions are known, and no reference is needed."""
    root = tmp_path / "runs"
    assert run("generate", "--model", "glide:tiny", "--steps", "base=2,upsampler=1", "--data",
               drawn, "--n", 4, "--batch-size", 4, "--out", root / "step-10") == 0  # fmt: skip
    assert run("watch", root, "--once", "--metrics", "clip-score",
               "--clip-model", "shapes-clip") == 0  # fmt: skip
    row = rows(root)["step-10"]
    assert row["n"] == "4"
    assert float(row["clip-score.low"]) < float(row["clip-score"]) < float(row["clip-score.high"])


def test_a_killed_watcher_resumes(training: Path, reference: str, tmp_path: Path) -> None:
    """Killed after the first checkpoint; the table ends as that of an undisturbed one."""
    whole = tmp_path / "whole"
    shutil.copytree(training, whole)
    words = ["--against", reference, "--features", "shapes-clip", "--metrics", "fd,kid",
             "--kid-subsets", "2", "--settle", "0", "--every", "0.1"]  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-m", "evalkit.cli", "watch", str(training), *words],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 120
    while not (training / "watch.csv").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert rows(training)
    assert run("watch", training, *words, "--until", 2) == 0
    assert run("watch", whole, *words, "--until", 2) == 0
    assert rows(training) == rows(whole)
