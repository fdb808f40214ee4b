"""The pipeline of docs/gate.md runs as printed, and its workflow and figures are what they say."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml


def block(root: Path, language: str) -> str:
    text = (root / "docs" / "gate.md").read_text("utf-8")
    (found,) = re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)
    return str(found)


def shell(root: Path, tmp_path: Path, lines: str) -> subprocess.CompletedProcess[str]:
    """Run lines in bash, with this checkout's `evalkit`."""
    command = f'evalkit() {{ {shlex.quote(sys.executable)} -m evalkit.cli "$@"; }}\n{lines}'
    paths = os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        ["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
    )  # fmt: skip


@pytest.mark.slow
def test_the_pipeline_runs_as_printed(root: Path, tmp_path: Path) -> None:
    (tmp_path / "gate.toml").write_text(block(root, "toml"))
    done = shell(root, tmp_path, block(root, "sh"))
    said = [line for line in done.stdout.splitlines() if "ship it" in line or "status" in line]
    assert said == ["ship it", "exit status 1"], done.stdout + done.stderr
    assert not ElementTree.parse(tmp_path / "gate.xml").findall(".//failure")
    assert "# Gate: failed" in (tmp_path / "gate.md").read_text("utf-8")


def test_its_file_is_a_gate(root: Path, tmp_path: Path) -> None:
    from evalkit.gate.definition import read_gate

    (tmp_path / "gate.toml").write_text(block(root, "toml"))
    kinds = {one.kind for one in read_gate(tmp_path / "gate.toml").requirements}
    assert kinds == {"non-inferior", "bound"}


def test_the_workflow_is_yaml_with_commands_that_exist(root: Path) -> None:
    from typer.main import get_command

    from evalkit import cli

    top = get_command(cli.app)
    (job,) = yaml.safe_load(block(root, "yaml"))["jobs"].values()
    commands = [shlex.split(step["run"]) for step in job["steps"] if "run" in step]
    ours = [words for words in commands if words[0] == "evalkit"]
    assert [words[1] for words in ours] == ["generate", "generate", "gate"]
    for words in ours:
        parameters = top.commands[words[1]].params  # type: ignore[attr-defined]
        known = {option for parameter in parameters for option in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= known


def test_its_exit_statuses_are_the_programs(root: Path) -> None:
    from evalkit.gate.requirements import CRASHED, EXIT_CODES

    text = (root / "docs" / "gate.md").read_text("utf-8")
    rows = dict(re.findall(r"^\| (\d+) \| ([\w ]*?) ?\|", text, flags=re.MULTILINE))
    assert rows == {
        **{str(code): verdict for verdict, code in EXIT_CODES.items()}, "2": "", str(CRASHED): ""
    }  # fmt: skip
