"""Paths that can't be written, files that are something else, and locks that don't exist."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from evalkit.core import locks
from evalkit.core.downloads import fetch
from evalkit.core.errors import EvalkitError, MissingDataError, OutputError, WeightsError
from evalkit.core.files import (
    check_folder,
    check_output,
    foreign_kind,
    refuse_foreign_weights,
    writing,
)
from evalkit.core.locks import locked
from evalkit.core.results import write_atomically
from evalkit.core.run import RunFolder


def test_what_can_be_written_is_left_as_it_was(tmp_path: Path) -> None:
    check_output(tmp_path / "new" / "deeper" / "x.json", "--json")
    check_folder(tmp_path / "new", "--out")
    check_output(None, "--json")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("path", ["/sys/x.json", "/proc/self/a/b.json", "/dev/null/x.json"])
def test_an_unwritable_file_is_named_before_the_work(path: str) -> None:
    with pytest.raises(OutputError, match=rf"{path} can't be written .* with --json\."):
        check_output(Path(path), "--json")
    with pytest.raises(OutputError, match=rf"{path} can't be written"):
        write_atomically(Path(path), b"x")


def test_a_file_is_no_folder_and_a_folder_no_file(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(OutputError, match="is a folder, but --json takes a file"):
        check_output(tmp_path, "--json")
    with pytest.raises(OutputError, match="is a file, but --out takes a folder"):
        check_folder(file, "--out")
    with pytest.raises(OutputError, match="can't be written"):
        check_folder(file / "below", "--out")


def test_a_full_disk_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match=r"No space left on device\)\. Choose another place"):
        write_atomically(tmp_path / "x.json", b"x")
    assert not list(tmp_path.iterdir())


def test_other_faults_inside_keep_their_own_class() -> None:
    with pytest.raises(MissingDataError), writing(Path("x")):
        raise MissingDataError("This one is an OSError too.")
    with pytest.raises(ZeroDivisionError), writing(Path("x")):
        _ = 1 // 0


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 9\n", "git lfs pull"),
        (b"\n <!DOCTYPE html><html>", "a web page"),
        (b"<HTML><body>403</body>", "a web page"),
        (b"", "an empty file"),
    ],
)
def test_a_file_in_place_of_weights_is_recognised(
    content: bytes, kind: str, tmp_path: Path
) -> None:
    file = tmp_path / "weights.pt"
    file.write_bytes(content)
    with pytest.raises(WeightsError, match=kind):
        refuse_foreign_weights(file)


def test_weights_are_left_to_their_reader(tmp_path: Path) -> None:
    file = tmp_path / "weights.pt"
    file.write_bytes(b"PK\x03\x04 and so on")
    assert foreign_kind(file) is None


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_no_other_process(
    code: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    def refuse(handle: object, operation: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("fcntl.flock", refuse)
    run = RunFolder.create_or_resume(tmp_path / "run", {"a": 1})
    with run.locked():
        pass
    with run.locked():  # said once
        pass
    said = capfd.readouterr().err
    assert said.count("has no locks") == 1
    assert "one command write to it at a time" in said


def test_a_system_without_locks_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(locks, "fcntl", None)
    with locked(tmp_path / "lock", wait=True), locked(tmp_path / "lock", wait=False):
        pass
    assert "this system has no file locks" in capfd.readouterr().err


def test_a_held_lock_is_another_process(tmp_path: Path) -> None:
    with (
        locked(tmp_path / "lock", wait=False),
        pytest.raises(BlockingIOError),
        locked(tmp_path / "lock", wait=False),
    ):
        pass


def test_an_unwritable_cache_says_how_to_choose_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("evalkit.core.downloads.require_network", lambda url: None)
    with pytest.raises(EvalkitError, match="choose another cache folder with EVALKIT_CACHE"):
        fetch("https://example.org/x", Path("/sys/cache/x"), sha256_prefix="00")
