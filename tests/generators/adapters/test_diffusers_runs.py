"""Runs of `diffusers:PATH` by the command line: killed, resumed, and refused in one line."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("diffusers")

Pipelines = Callable[[str], Path]
FAIL_FAST_S = 5


def evalkit(*arguments: str) -> list[str]:
    return [sys.executable, "-W", "ignore", "-m", "evalkit.cli", *arguments]


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


def generate(folder: Path, out: Path) -> list[str]:
    prompts = [f"--prompt={words}" for words in ("a red circle", "a blue square", "a circle")]
    return evalkit(
        "generate", "--model", f"diffusers:{folder}", *prompts, "--n", "16", "--batch-size", "4",
        "--steps", "6", "--device", "cpu", "--out", str(out),
    )  # fmt: skip


def both(*commands: list[str]) -> list[str]:
    """Run commands one after the other in one process, which imports torch once."""
    lines = [f"app({command[5:]!r}, standalone_mode=False)" for command in commands]
    return [*evalkit()[:3], "-c", "\n".join(["from evalkit.cli import app", *lines])]


def content(run: Path) -> dict[str, bytes]:
    files = [run / "run.json", run / "manifest.jsonl", *sorted(run.glob("images/*/*.png"))]
    return {str(file.relative_to(run)): file.read_bytes() for file in files}


def test_a_killed_run_ends_byte_for_byte_like_an_undisturbed_one(
    pipelines: Pipelines, tmp_path: Path
) -> None:
    command = generate(pipelines("sd"), tmp_path / "killed")
    process = subprocess.Popen(command, env=environment(), stderr=subprocess.DEVNULL)
    manifest = tmp_path / "killed" / "manifest.jsonl"
    until = time.monotonic() + 120
    while not (manifest.exists() and manifest.read_bytes().count(b"\n") >= 4):
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < until
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = manifest.read_bytes().count(b"\n")
    assert done < 16, "the run was too quick to be killed"
    plain = generate(pipelines("sd"), tmp_path / "plain")
    subprocess.run(both(command, plain), env=environment(), check=True, capture_output=True)
    killed, undisturbed = content(tmp_path / "killed"), content(tmp_path / "plain")
    assert len(killed) == 18
    assert killed == undisturbed


def test_a_wrong_repository_is_one_line_within_seconds_offline(tmp_path: Path) -> None:
    command = evalkit(
        "generate", "--model", "diffusers:nobody/nothing", "--prompt", "a red circle",
        "--device", "cpu", "--out", str(tmp_path / "run"),
    )  # fmt: skip
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    found = subprocess.run(command, env=environment(), capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    # Nothing waits offline, so this is the time on a machine that does nothing else.
    busy_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert busy_s < FAIL_FAST_S
    assert found.returncode == 2
    assert found.stderr.startswith("evalkit: nobody/nothing not found in the cache")
    assert found.stderr.count("\n") == 1
    assert not (tmp_path / "run").exists()
