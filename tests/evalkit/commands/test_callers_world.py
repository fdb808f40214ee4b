"""Whatever the caller's world does is one line and exit code 2; a bug keeps its traceback."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from packages import install_package
from PIL import Image

from evalkit import cli
from evalkit.core.results import read_records
from evalkit.core.run import RunFolder

DDPM = ["generate", "--model", "ddpm:tiny", "--data", "DRAWN", "--steps", "2"]
"""DRAWN stands for a small `shapes` on disk, also below."""
SHAPES_CLIP = ["--features", "shapes-clip", "--clip-model", "shapes-clip"]


_drawn: list[str] = []


def words_of(*arguments: str | Path) -> list[str]:
    return [word.replace("DRAWN", _drawn[0]) for word in map(str, arguments)]


def run(*arguments: str | Path) -> int:
    """Run a command in this process, as `evalkit` would, and give its exit code."""
    sys.argv = ["evalkit", *words_of(*arguments)]
    try:
        cli.main()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


@pytest.fixture(scope="module", autouse=True)
def draw(tmp_path_factory: pytest.TempPathFactory) -> None:
    from evalkit.datasets.shapes.dataset import write_shapes

    _drawn[:] = [str(write_shapes(tmp_path_factory.mktemp("shapes"), 0, 24))]


@pytest.fixture(autouse=True)
def keep_argv(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "argv", sys.argv)
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two dozen noise pictures, to be measured against themselves."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for index in range(24):
        pixels = rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{index}.png")
    return folder


def last_line(capfd: pytest.CaptureFixture[str]) -> str:
    return capfd.readouterr().err.strip().splitlines()[-1]


@pytest.mark.parametrize("device", ["mps", "meta", "xpu", "cuda:-1", "cpu:1", "", "cuda:1000"])
@pytest.mark.parametrize(
    "command",
    [DDPM, ["score", "x", "--against", "y"], ["nll", "--model", "ddpm:tiny", "--data", "DRAWN"]],
    ids=["generate", "score", "nll"],
)
def test_other_devices_are_refused(
    device: str, command: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(*command, "--device", device) == 2
    said = last_line(capfd)
    assert said.startswith("evalkit: --device")
    assert "Use" in said


@pytest.mark.parametrize(
    "arguments",
    [
        ["score", "PICTURES", "--against", "PICTURES", "--json", "/sys/x.json"],
        ["compare", "PICTURES", "a=PICTURES", "--against", "PICTURES", "--html", "/sys/x.html"],
        ["compare", "PICTURES", "a=PICTURES", "--against", "PICTURES", "--json", "/proc/x"],
        ["plan", "fid", "PICTURES", "--difference", "1", "--against", "x", "--json", "/sys/x"],
        ["statistics", "PICTURES", "--out", "/sys/x.npz"],
        ["fid", "--model", "ddpm:tiny", "--data", "DRAWN", "--n", "4", "--json", "/sys/x.json"],
        ["nll", "--model", "ddpm:tiny", "--data", "DRAWN", "--json", "/sys/x.json"],
        ["generate", "--model", "ddpm:tiny", "--data", "DRAWN", "--n", "4", "--out", "/sys/x"],
        ["data", "shapes", "--out", "/sys/x"],
        ["train", "ddpm-tiny", "--out", "/sys/x"],
        ["vocabulary", "--out", "/sys/x"],
        ["drawbench", "generate", "--suite", "shapes-bench", "--models", "glide:tiny", "--out",
         "/sys/x"],
        ["drawbench", "clip-scores", "x", "--out", "/sys/x.csv"],
    ],
    ids=lambda words: " ".join(words[:2]),
)  # fmt: skip
def test_outputs_are_checked_before_the_work(
    arguments: list[str],
    pictures: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def work(*_: object, **__: object) -> None:
        pytest.fail("the work began")

    monkeypatch.setattr("evalkit.metrics.score.extract_set", work)
    monkeypatch.setattr("generators.catalog.require_model", work)
    monkeypatch.setattr("evalkit.commands.data.write_shapes", work)
    monkeypatch.setattr("generators.training.loop.build_trainee", work)
    assert run(*(word.replace("PICTURES", str(pictures)) for word in arguments)) == 2
    assert "can't be written" in last_line(capfd)


def test_a_store_that_can_not_be_written_is_left_out(
    pictures: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    score = ["score", pictures, "--against", pictures, *SHAPES_CLIP, "--metrics", "fd,kid"]
    assert run(*score, "--json", tmp_path / "with.json") == 0
    assert run(*score, "--json", tmp_path / "without.json", "--store", "/sys/store") == 0
    assert capfd.readouterr().err.count("note: features can't be stored in /sys/store") == 1
    with_store, without = (
        [(r.metric, r.value) for r in read_records(tmp_path / f"{name}.json")]
        for name in ("with", "without")
    )
    assert with_store == without


@pytest.mark.parametrize("kind", ["pointer", "page", "empty", "other", "cut", "pickle"])
@pytest.mark.parametrize(
    "option", ["--weights ddpm-tiny", "--inception-weights", "--clip-model RN50", "--start"]
)
def test_files_that_are_no_weights(
    kind: str, option: str, pictures: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / f"{kind}.safetensors"
    torch.save({"a": torch.zeros(3)}, file)
    whole = file.read_bytes()
    content = {
        "pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 1\n",
        "page": b"<!DOCTYPE html><title>Sign in</title>",
        "empty": b"",
        "other": whole,
        "cut": whole[: len(whole) // 2],
        "pickle": b"\x80\x04cos\nsystem\n.",
    }[kind]
    file.write_bytes(content)
    flag, _, name = option.partition(" ")
    measured = ["score", pictures, "--against", pictures]
    code = run(
        *{
            "--weights": [*DDPM, "--n", "1", flag, f"{name}={file}"],
            "--inception-weights": [*measured, "--metrics", "fid", flag, file],
            "--clip-model": [*measured, *SHAPES_CLIP[:2], "--metrics", "clip-score", flag,
                             f"{name}:{file}"],
            "--start": ["train", "unclip-tiny-sr1", "--cpu", "--steps", "1", "--out",
                        tmp_path / "out", flag, file],
        }[flag]
    )  # fmt: skip
    assert code == 2
    said = last_line(capfd)
    assert said.startswith("evalkit: ")
    if kind in ("pointer", "page", "empty"):
        assert {"pointer": "git lfs pull", "page": "web page", "empty": "empty file"}[kind] in said


THEIRS = """
import numpy as np
from generators.base import GeneratorSpec, Sample
from generators.catalog import ModelRow

RETURNED = {
    "floats": lambda n: [Sample(np.zeros((8, 8, 3)))] * n,
    "nan": lambda n: [Sample(np.full((8, 8, 3), np.nan))] * n,
    "size": lambda n: [Sample(np.zeros((9, 8, 3), np.uint8))] * n,
    "grey": lambda n: [Sample(np.zeros((8, 8), np.uint8))] * n,
    "few": lambda n: [Sample(np.zeros((8, 8, 3), np.uint8))] * (n - 1),
    "none": lambda n: None,
    "arrays": lambda n: [np.zeros((8, 8, 3), np.uint8)] * n,
    "silent": lambda n: [Sample(None)] * n,
    "unexplained": lambda n: [Sample(None, "failed")] * n,
}

class Their:
    def __init__(self, name):
        self.kind = name.rpartition("/")[2]
        self.spec = GeneratorSpec(
            name=name, display_name=name, conditioning="none", stages=(), size_px=8,
            training_data=(), weights="none", weights_sha256="none",
        )

    def generate(self, requests, settings):
        if self.kind == "bug":
            raise RuntimeError("a bug of theirs")
        return RETURNED[self.kind](len(requests))

def load(name, device, weights):
    return Their(name)
"""


@pytest.fixture
def theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = ("floats", "nan", "size", "grey", "few", "none", "arrays", "silent", "unexplained")
    points = {f"their/{kind}": "their_images:load" for kind in (*kinds, "bug")}
    (tmp_path / "site").mkdir()
    install_package(
        tmp_path / "site",
        monkeypatch,
        modules={"their_images": THEIRS},
        entry_points={"evalkit.generators": points},
    )


@pytest.mark.usefixtures("theirs")
@pytest.mark.parametrize(
    ("kind", "complaint"),
    [
        ("floats", "an image of float64, expected uint8"),
        ("nan", "an image of float64, expected uint8"),
        ("size", r"an image of shape (9, 8, 3), expected (8, 8, 3)"),
        ("grey", r"an image of shape (8, 8), expected"),
        ("few", "2 samples for 3 requests"),
        ("none", "NoneType samples for 3 requests"),
        ("arrays", "a ndarray, expected a Sample"),
        ("silent", "without an image"),
        ("unexplained", "expected a reason"),
    ],
)
def test_a_package_that_returns_something_else_is_named(
    kind: str, complaint: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    words = ["generate", "--model", f"their/{kind}", "--data", "DRAWN", "--n", "3"]
    assert run(*words, "--out", tmp_path / "run") == 2
    said = last_line(capfd)
    assert complaint in said
    assert f"their/{kind}" in said
    assert not RunFolder.read(tmp_path / "run").rows()


@pytest.mark.usefixtures("theirs")
def test_a_bug_of_a_package_keeps_its_traceback(tmp_path: Path) -> None:
    words = ["generate", "--model", "their/bug", "--data", "DRAWN", "--n", "3"]
    with pytest.raises(RuntimeError, match="a bug of theirs"):
        run(*words, "--out", tmp_path / "run")


@pytest.mark.parametrize("error", [ValueError, KeyError, OSError, RuntimeError, AssertionError])
def test_an_error_inside_a_metric_keeps_its_traceback(
    error: type[Exception], pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise error("a bug")

    monkeypatch.setattr("evalkit.metrics.score._measure", broken)
    with pytest.raises(error, match="a bug"):
        run("score", pictures, "--against", pictures, *SHAPES_CLIP, "--metrics", "fd")


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("Unable to allocate 9. TiB"),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: not enough memory"),
    ],
    ids=["numpy", "cuda", "cpu"],
)
def test_too_little_memory_is_one_line(
    error: Exception,
    pictures: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    def exhausted(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("evalkit.metrics.score._measure", exhausted)
    assert run("score", pictures, "--against", pictures, *SHAPES_CLIP, "--metrics", "fd") == 2
    assert "Choose a smaller --batch-size" in last_line(capfd)


def test_a_broken_file_name_is_printed_and_stored(
    pictures: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """A byte that is no UTF-8 in a name becomes half of a surrogate pair in Python."""
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    folder.symlink_to(pictures)
    records = tmp_path / os.fsdecode(b"r\xe9sum\xe9.json")
    words = ["score", folder, "--against", folder, *SHAPES_CLIP, "--metrics", "fd"]
    assert run(*words, "--json", records) == 0
    assert "caf\\udce9" in capfd.readouterr().out
    document = json.loads(records.read_bytes())
    assert ascii(document["records"][0]["subject"]) == ascii(folder.name)


def test_a_full_standard_output_is_one_line(root: Path) -> None:
    command = [sys.executable, "-m", "evalkit.cli", "list", "recipes"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, cwd=root)
    assert done.returncode == 2
    assert "can't be printed (No space left on device)" in done.stderr
    assert "Traceback" not in done.stderr


def test_one_metric_of_two_by_name_is_missing(
    pictures: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Exit code 3, the reason last, and the records are there; by default it stays 0."""
    file = tmp_path / "records.json"
    words = ["score", pictures, "--against", pictures, *SHAPES_CLIP, "--json", file]
    assert run(*words, "--metrics", "fd,cmmd") == 3
    said = last_line(capfd)
    assert said.startswith("evalkit: Not all could be measured. cmmd: ")
    assert {r.metric: r.state for r in read_records(file)} == {
        "fd": "ok", "fd-infinity": "ok", "cmmd": "failed",
    }  # fmt: skip
    page, pair = tmp_path / "page.html", ["a=" + str(pictures), "b=" + str(pictures)]
    words = ["compare", *pair, "--against", pictures, *SHAPES_CLIP, "--html", page]
    assert run(*words, "--metrics", "fd,cmmd") == 3
    assert page.is_file()
    out = tmp_path / "run"
    words = ["fid", *DDPM[1:], "--n", "8", *SHAPES_CLIP, "--out", out]
    assert run(*words, "--metrics", "fd,cmmd") == 3
    assert (out / "report.html").is_file()
    assert run(*words) == 0


def test_scores_of_a_run_are_kept_in_it(
    pictures: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert run(*DDPM, "--n", "8", "--out", out) == 0
    assert run("report", out) == 2
    assert f"Measure it with: evalkit score {out}" in last_line(capfd)
    assert run("score", out, "--against", pictures, *SHAPES_CLIP, "--metrics", "fd") == 0
    assert run("report", out) == 0
    assert run("score", out, "--against", pictures, *SHAPES_CLIP, "--metrics", "kid") == 0
    kept = [record.metric for record in read_records(out / "results.json")]
    assert kept == ["fd", "fd-infinity", "kid", "kid-full"]


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--guidance", "base=3,base=4"], "sets stage base twice"),
        (["--guidance", "3,base=4"], "sets stage base twice"),
        (["--steps", "base=3,upsampler=2,base=3"], "sets stage base twice"),
        (["--set", "base.threshold=static", "--set", "threshold=dynamic"], "twice"),
        (["--weights", "glide-tiny-base=a", "--weights", "glide-tiny-base=b"], "twice"),
    ],
)
def test_a_setting_is_given_once(
    words: list[str], complaint: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run("generate", "--model", "glide:tiny", "--prompt", "a red circle", *words) == 2
    assert complaint in last_line(capfd)


@pytest.mark.parametrize("flag", ["--bf16", "--fp16", "--compile-model"])
@pytest.mark.parametrize("model", ["openai:gpt-image-1", "python:theirs:model"])
def test_numerics_are_refused_before_weights_are_read(
    model: str, flag: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def read(*_: object) -> None:
        pytest.fail("weights were looked for")

    monkeypatch.setattr("generators.catalog.require_model", read)
    assert run("generate", "--model", model, "--prompt", "x", flag) == 2
    assert "takes none of --bf16, --fp16, --compile-model and --offload" in last_line(capfd)


@pytest.mark.parametrize("model", ["dalle:tiny", "dalle:tiny-untrained"])
def test_what_writes_code_by_code_is_not_compiled(
    model: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """torch.compile replaces a network's call, which the sampling with kept keys never makes."""
    monkeypatch.setattr("generators.catalog.require_model", lambda *_: pytest.fail("read"))
    assert run("generate", "--model", model, "--prompt", "x", "--compile-model") == 2
    assert f"{model} can't be compiled" in last_line(capfd)


@pytest.mark.parametrize(
    ("second", "more"),
    [
        ("glide:tinny", []),
        ("ddpm:tiny-class", []),
        ("glide", []),
        ("dalle:tiny", ["--steps", "2"]),
        ("folder:images", ["--bf16"]),
    ],
)
def test_a_later_model_is_refused_before_the_first_one_samples(
    second: str, more: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sample(*_: object, **__: object) -> None:
        pytest.fail("the first model samples")

    monkeypatch.setattr("evalkit.engine.generate", sample)
    words = ["drawbench", "generate", "--suite", "shapes-bench", "--out", tmp_path]
    assert run(*words, "--models", f"glide:tiny,{second}", *more) == 2


def begun(words: list[str | Path], ready: Path, root: Path) -> subprocess.Popen[str]:
    """Start a command in a process of its own, and wait until a file of it exists.

    Ctrl-C counts in it also where the tests run in the background of a shell, which ignores it.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", "evalkit.cli", *words_of(*words)],
        cwd=root, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    deadline = time.monotonic() + 240
    while not ready.is_file() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    return process


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["ctrl-c", "sigterm"]
)
def test_a_stopped_run_says_where_and_goes_on(
    number: signal.Signals, code: int, tmp_path: Path, root: Path
) -> None:
    out = tmp_path / "run"
    words: list[str | Path] = [*DDPM, "--n", "4000", "--batch-size", "4", "--out", out]
    process = begun(words, out / "timings.jsonl", root)
    process.send_signal(number)
    _, said = process.communicate(timeout=240)
    assert process.returncode == code, said
    last = said.strip().splitlines()[-1]
    assert "Stopped at Sampling ddpm:tiny: " in last
    assert "of 4,000. The same command goes on from there." in last
    assert "Traceback" not in said


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "sigterm"])
def test_stopped_training_writes_its_checkpoint(
    number: signal.Signals, tmp_path: Path, root: Path
) -> None:
    text = (root / "generators/training/recipes/ddpm-tiny.toml").read_text()
    recipe = tmp_path / "small.toml"
    recipe.write_text(text.replace("num_images = 60000", "num_images = 32"))
    out = tmp_path / "out"
    process = begun(["train", recipe, "--cpu", "--out", out], out / "log.csv", root)
    process.send_signal(number)
    _, said = process.communicate(timeout=240)
    assert process.returncode == (130 if number == signal.SIGINT else 143), said
    assert "Stopped at Training ddpm-tiny: " in said.strip().splitlines()[-1]
    assert (out / "checkpoint.safetensors").is_file()
