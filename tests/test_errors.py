"""Error messages are full sentences: each literal one ends in a full stop."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGES = ("evalkit",)
"""Add a package when its messages are full sentences."""
PENDING: tuple[str, ...] = ()
"""Not rewritten yet; remove a line when its messages are."""
OF_PYTHON = {"KeyError", "AttributeError", "StopIteration"}
"""Raised for Python's own protocols; nobody reads their messages."""


def error_messages(source: str) -> Iterator[tuple[int, ast.expr]]:
    """Yield the line and the message of every error that is built from a literal."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and node.args:
            name = ast.unparse(node.func).rpartition(".")[2]
            if name.endswith("Error") and name not in OF_PYTHON:
                yield node.lineno, node.args[0]


def ends_in_full_stop(message: ast.expr) -> bool:
    """Return whether a message ends in a full stop, or with an error that does so itself."""
    match message:
        case ast.BinOp(op=ast.Add()):
            return ends_in_full_stop(message.right)
        case ast.IfExp():
            return ends_in_full_stop(message.body) and ends_in_full_stop(message.orelse)
        case ast.JoinedStr(values=[*_, last]):
            return ends_in_full_stop(last)
        case ast.FormattedValue():
            return ast.unparse(message.value) == "error"
        case ast.Constant(value=str(text)):
            return text.endswith(".")
    return True  # no literal: a variable or a call


@pytest.mark.parametrize("package", PACKAGES)
def test_messages_end_in_a_full_stop(root: Path, package: str) -> None:
    wrong = [
        f"{path.relative_to(root)}:{line}: {ast.unparse(message)}"
        for path in sorted((root / package).rglob("*.py"))
        if not str(path.relative_to(root)).startswith(PENDING)
        for line, message in error_messages(path.read_text("utf-8"))
        if not ends_in_full_stop(message)
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    "source",
    [
        'raise ConfigError("no such thing")',
        'raise errors.DataError(f"{path}: not JSON ({error})")',
        'raise DataError("a sentence. " + f"and {more}")',
        'return MissingWeightsError("first. " "second")',
    ],
)
def test_a_message_without_full_stop_is_caught(source: str) -> None:
    found = list(error_messages(source.replace("return ", "x = ")))
    assert len(found) == 1
    assert not ends_in_full_stop(found[0][1])
