"""Progress without a terminal, within a batch, and where a command stopped."""

from __future__ import annotations

import io
import time

import pytest
from rich.console import Console

from evalkit.core import progress
from evalkit.core.progress import (
    TaskState,
    advance,
    heard_by,
    progress_bar,
    training_bar,
    where_it_stopped,
)


def test_a_line_by_hand() -> None:
    """600 done in 120 s, 400 of them by an earlier command: 200 in 120 s, 400 left: 240 s."""
    state = TaskState("Sampling", 0.0, first=400.0, done=600.0, total=1000)
    assert state.line(120.0) == "Sampling: 600 of 1,000, 1.7/s, 0:04:00 left"
    slow = TaskState("Sampling", 0.0, first=0.0, done=1.5, total=3, note="loss 0.1")
    assert slow.line(90.0) == "Sampling: 1 of 3, 1.0/min, 0:01:30 left, loss 0.1"
    assert TaskState("Listing", 0.0).line(61.0) == "Listing: 0:01:01 so far"


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """What a file would receive, with a line every few hundredths of a second."""
    stream = io.StringIO()
    monkeypatch.setattr(progress, "errors", Console(file=stream, soft_wrap=True))
    monkeypatch.setattr(progress, "LINE_EVERY_S", 0.05)
    return stream


def test_without_a_terminal_there_are_lines(log: io.StringIO) -> None:
    with progress_bar("Sampling x") as report:
        report(1, 4)
        time.sleep(0.2)
        report(3, 4)
        time.sleep(0.2)
    lines = log.getvalue().splitlines()
    assert "Sampling x: 1 of 4" in lines[0]
    assert any(line.startswith("Sampling x: 3 of 4, ") and " left" in line for line in lines)
    assert lines[-1].startswith("Sampling x: 4 in ")


def test_work_that_reports_nothing_has_lines_too(log: io.StringIO) -> None:
    with progress_bar("Listing x"):
        time.sleep(0.2)
    assert "Listing x: 0:00:00 so far" in log.getvalue()


def test_short_work_prints_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(progress, "errors", Console(file=stream))
    with progress_bar("Sampling x") as report:
        report(1, 1)
    assert stream.getvalue() == ""


def test_training_lines_have_the_loss(log: io.StringIO) -> None:
    with training_bar("Training x") as report:
        report(10, 100, 0.25)
        time.sleep(0.2)
    assert "Training x: 10 of 100" in log.getvalue()
    assert "loss 0.2500" in log.getvalue()


def test_on_a_terminal_the_bar_shows_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    terminal = Console(file=stream, force_terminal=True, width=100)
    monkeypatch.setattr(progress, "errors", terminal)
    with progress_bar("Sampling x") as report:
        report(1, 4)
        report(2.5, 4)
    assert "2/4" in stream.getvalue()


def test_where_a_command_stopped_is_the_innermost_count() -> None:
    def work() -> None:
        with progress_bar("Sampling x") as outer:
            outer(1200, 30000)
            with progress_bar("Listing"):
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        work()
    assert where_it_stopped() == "Sampling x: 1,200 of 30,000"
    with progress_bar("later"):
        pass
    assert where_it_stopped() == ""


def test_only_a_listener_hears_deep_work() -> None:
    heard = []
    advance(1, 2)
    with heard_by(lambda done, total: heard.append((done, total))):
        advance(1, 2)
    advance(2, 2)
    assert heard == [(1, 2)]
