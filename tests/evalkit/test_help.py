"""`--help` is grouped under headings, and shows defaults."""

from __future__ import annotations

import dataclasses
import re

import pytest
from typer.testing import CliRunner

from evalkit import cli
from evalkit.commands import panels
from evalkit.options import MeasureOptions


def help_of(*arguments: str) -> str:
    cli._mount_drawbench()
    done = CliRunner().invoke(cli.app, [*arguments, "--help"], env={"COLUMNS": "100"})
    assert done.exit_code == 0, done.output
    return done.output


def sections(text: str) -> dict[str, str]:
    parts = re.split(r"^(\S[^\n]*):\n", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_options_are_listed_by_what_they_are_about() -> None:
    found = sections(help_of("fid"))
    assert "--coco" in found["What to generate"]
    assert "--guidance" in found["Sampling"]
    assert "--metrics" in found["Metrics"]
    assert "--crop" in found["Images"]
    assert "--features" in found["Features"]
    assert "--distractors" in found["Settings of single metrics"]
    assert "--workers" in found["Speed and storage"]
    assert "--out" in found["Options"]
    assert "--coco" not in found["Options"]


@pytest.mark.parametrize("command", ["fid", "generate", "score", "compare", "statistics"])
def test_no_option_is_lost_under_a_heading(command: str) -> None:
    from typer.main import get_command

    (found,) = (c for n, c in get_command(cli.app).commands.items() if n == command)
    text = help_of(command)
    for param in found.params:
        if param.param_type_name == "option" and not param.hidden:
            assert param.opts[-1] in text


def test_defaults_are_shown() -> None:
    assert re.search(r"(?s)--kid-subsets .*?\[default:\s+100;", help_of("score"))
    assert "[default: the data set of the runs]" in help_of("compare")


def test_commands_are_listed_by_purpose() -> None:
    found = sections(help_of())
    assert "compare" in found[panels.EVALUATE]
    assert "generate" in found[panels.GENERATE]
    assert "drawbench" in found[panels.STUDY]
    assert "doctor" in found[panels.ABOUT]
    assert "Commands" not in found, "a command without a heading"


def test_every_measuring_option_has_a_heading() -> None:
    fields = {field.name for field in dataclasses.fields(MeasureOptions) if field.metadata}
    listed = [name for names in panels._MEASURING.values() for name in names]
    assert sorted(listed) == sorted(fields)
