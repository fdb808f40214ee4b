"""The README's Python blocks run, and its commands are commands."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

import pytest


def text(root: Path) -> str:
    return (root / "README.md").read_text("utf-8")


def test_it_stays_readable(root: Path) -> None:
    assert text(root).count("\n") <= 200


def test_its_python_blocks_run(root: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", text(root), flags=re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        exec(compile(block, "README.md", "exec"), {})


def test_its_links_and_pictures_exist(root: Path) -> None:
    targets = re.findall(r"\]\(([^)#]+)\)", text(root))
    missing = [target for target in targets if not (root / target).exists()]
    assert len(targets) > 5
    assert not missing


def test_its_commands_have_those_options(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from typer.main import get_command

    from evalkit import cli

    command = get_command(cli.app)
    lines = re.findall(r"^    evalkit (.*)$", text(root), flags=re.MULTILINE)
    assert len(lines) > 8
    for line in lines:
        words = line.split("#")[0].split()
        here = command
        while getattr(here, "commands", None) and words and words[0] in here.commands:
            here = here.commands[words.pop(0)]
        if "drawbench" in line:
            continue
        known = {name for p in here.params for name in p.opts}
        used = {word for word in words if word.startswith("--")}
        assert used <= known, line


@pytest.mark.slow
def test_its_offline_commands_work_one_after_the_other(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """As printed, in an empty folder."""
    from evalkit import cli

    (block,) = re.findall(
        r"^Offline and in this order.*\n\n((?:    .*\n)+)", text(root), re.MULTILINE
    )
    monkeypatch.chdir(tmp_path)
    for line in block.splitlines():
        monkeypatch.setattr(sys, "argv", shlex.split(line, comments=True))
        code = 0
        try:
            cli.main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        assert code == 0, f"{line}: {capfd.readouterr().err}"
    assert (tmp_path / "runs/mine/report.html").is_file()
    assert (tmp_path / "comparison.html").is_file()


def test_its_metrics_are_those_of_the_catalog(root: Path) -> None:
    """Paste what `evalkit.commands.listing.metrics_markdown` returns where this fails."""
    from evalkit.commands.listing import metrics_markdown

    (table,) = re.findall(r"^## Metrics\n\n((?:\|.*\n)+)", text(root), flags=re.MULTILINE)
    assert table == metrics_markdown()


def test_the_makefile_has_the_targets_it_names(root: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (root / "Makefile").read_text(), flags=re.MULTILINE))
    assert {"setup", "demo", "test", "check", "bench"} <= targets
    ci = (root / ".ci" / "run").read_text()
    assert "make check" in ci
    assert "make test" in ci
