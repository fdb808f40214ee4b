"""`evalkit runs list|show|verify|merge|rm|export`: run folders, here or at a URL."""

from __future__ import annotations

import dataclasses
import json
import shutil
import tarfile
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import Any

import typer
from rich import box
from rich.table import Table
from rich.text import Text

from evalkit.core.compaction import compact
from evalkit.core.errors import ConfigError, MissingDataError, RunFolderError
from evalkit.core.files import writing
from evalkit.core.manifest import Parts
from evalkit.core.places import AnyPath, is_remote, names_in, reaching
from evalkit.core.progress import ProgressFactory, console, progress_bar
from evalkit.core.results import write_atomically
from evalkit.core.run import ManifestRow, RunFolder
from evalkit.core.run_checks import forget_shards, unfinished_shards
from evalkit.core.run_checks import verify as verify_folder

_MOST_SHOWN = 10
Writer = Callable[[str, bytes], None]


def list_runs(
    root: AnyPath, *, as_json: bool = False, progress: ProgressFactory = progress_bar
) -> int:
    """List the runs in a folder, and those in its folders; return how many there are.

    Raises:
        MissingDataError: There is no such folder.
    """
    found: list[dict[str, Any]] = []
    with progress(f"Reading the runs in {root}") as report:
        for path in _run_folders(root):
            try:
                found.append(_summary(RunFolder.read(path)))
            except RunFolderError as error:
                found.append({"path": str(path), "error": str(error)})
            report(len(found), len(found))
    if as_json:
        _print_lines(found)
        return len(found)
    table = Table(box=box.SIMPLE_HEAD)
    for title in ("run", "model", "data"):
        table.add_column(title, overflow="fold")
    for title in ("images", "of", "parts"):
        table.add_column(title, justify="right")
    for run in found:
        if "error" in run:
            table.add_row(Text(run["path"]), Text(run["error"]), "", "", "", "")
            continue
        counts = (run["num_rows"], run["num_wanted"], run["num_parts"])
        words = (run["path"], run["model"], run["dataset"])
        table.add_row(*map(Text, words), *(f"{count:,}" for count in counts))
    console.print(table)
    return len(found)


def show(
    run: RunFolder, *, as_json: bool = False, progress: ProgressFactory = progress_bar
) -> None:
    """Print what a run is, how far it is, and how fast it was."""
    statuses: Counter[str] = Counter()
    with progress(f"Reading {run.path}") as report:
        wanted = _wanted(run)
        for done, row in enumerate(run.iter_rows(), start=1):
            statuses[row.status] += 1
            if done % 1000 == 0:
                report(done, max(done, wanted))
    timings = run.timings()
    seconds = sum(row.get("elapsed_s", 0.0) for row in timings)
    images = sum(row.get("num_images", 0) for row in timings)
    found = {
        **_summary(run, statuses.total()),
        "statuses": dict(statuses),
        "sampling_s": round(seconds, 3),
        "images_per_s": images / seconds if seconds else None,
        "unfinished_shards": list(unfinished_shards(run)),
        "batch_size": run.config.get("batch_size"),
        "device": run.config.get("device"),
        "seed": run.config.get("seed"),
        "hash": run.fingerprint,
        "made_with": run.made_with,
    }
    if as_json:
        _print_lines([found])
        return
    for key, value in found.items():
        if value not in (None, [], {}, ""):
            _say(f"{key}: {value}")


def verify(
    run: RunFolder, *, as_json: bool = False, progress: ProgressFactory = progress_bar
) -> None:
    """Read every row and image, and print what is wrong.

    Raises:
        RunFolderError: Something is; the message says how to mend it.
    """
    with progress(f"Verifying {run.path}") as report:
        found = verify_folder(run, report)
    if as_json:
        _print_lines([dataclasses.asdict(fault) for fault in found.faults])
    else:
        shown: Counter[str] = Counter()
        for fault in found.faults:
            shown[fault.kind] += 1
            if shown[fault.kind] <= _MOST_SHOWN:
                _say(f"{fault.kind}: {fault.where}: {fault.detail}")
        for kind, count in found.counts.items():
            if count > _MOST_SHOWN:
                _say(f"{kind}: {count - _MOST_SHOWN:,} more")
    if not found.is_intact:
        said = ", ".join(f"{count:,} x {kind}" for kind, count in found.counts.items())
        raise RunFolderError(
            f"{run.path} is not intact: {said}. Repeat the command that began it, which makes "
            "these batches again."
        )
    if as_json:
        counts = {"num_rows": found.num_rows, "num_images": found.num_images}
        _print_lines([{"path": str(run.path), "intact": True, **counts}])
    else:
        _say(f"intact: {found.num_rows:,} rows, {found.num_images:,} images: {run.path}")


def merge(run: RunFolder, progress: ProgressFactory = progress_bar) -> int:
    """Turn the parts of a finished run into its manifest; return how many there were.

    Raises:
        RunFolderError: Rows are missing, or another process is writing to the run.
    """
    unfinished = list(unfinished_shards(run))
    with run.locked(), progress(f"Merging {run.path}") as report:
        try:
            num_parts = compact(run, _wanted(run), report)
        except RunFolderError as error:
            shards = f" Shards: {'; '.join(unfinished)}." if unfinished else ""
            raise RunFolderError(
                f"{error}{shards} Repeat the command that began it, then merge again."
            ) from error
        forget_shards(run)
    _say(f"merged {num_parts:,} parts, {_wanted(run):,} rows: {run.path}")
    return num_parts


def remove_run(run: RunFolder, *, yes: bool, ask: Callable[[str], bool] = typer.confirm) -> bool:
    """Delete a run folder and all that is in it, after a question.

    Raises:
        RunFolderError: Another process is writing to it.
    """
    if not yes and not ask(f"Delete {run.path} and all its images?"):
        return False
    with run.locked():
        if is_remote(run.path):
            fs: Any = run.path.fs  # type: ignore[attr-defined]
            with reaching(run.path):
                fs.rm(str(run.path.path), recursive=True)  # type: ignore[attr-defined]
        else:
            with writing(run.path, "Delete it by hand"):
                shutil.rmtree(run.path)
    _say(f"deleted {run.path}")
    return True


def export(run: RunFolder, out: AnyPath, progress: ProgressFactory = progress_bar) -> int:
    """Copy the images with `captions.jsonl` into a folder, zip or tar; return how many.

    `evalkit score` and `evalkit runs import` read what this writes.

    Raises:
        ConfigError: Something is there already.
        RunFolderError: The run is damaged, or an image is missing.
    """
    if out.exists() and (out.is_file() or any(out.iterdir())):
        raise ConfigError(f"{out} exists already. Name a new folder, .zip or .tar with --out.")
    wanted, done = _wanted(run), 0
    captions: list[bytes] = []
    with writing(out), _writer(out) as write, progress(f"Exporting {run.path}") as report:
        for row in run.iter_rows():
            if row.file is None:
                continue
            path = run.image_path(row)
            try:
                content = path.read_bytes()
            except FileNotFoundError:
                raise RunFolderError(f"{path} is missing. Resume the run first.") from None
            if not run.is_image(row, content):
                raise RunFolderError(f"{path} was altered. Resume the run first.")
            write(path.name, content)
            captions.append(_caption_line(row, path.name))
            done += 1
            report(done, max(done, wanted))
        write("captions.jsonl", b"".join(captions))
    _say(f"exported {done:,} images: {out}")
    return done


def _caption_line(row: ManifestRow, name: str) -> bytes:
    number = f"#{row.sample_index + 1}" if row.sample_index else ""
    text = row.prompt if row.prompt is not None else ""
    fields = {"file_name": name, "text": text, "id": row.caption_id + number}
    return (json.dumps(fields) + "\n").encode()


@contextmanager
def _writer(out: AnyPath) -> Iterator[Writer]:
    """Yield what writes one file into a folder or a new archive."""
    if out.suffix == ".zip":
        with zipfile.ZipFile(out, "x", zipfile.ZIP_STORED) as archive:
            yield lambda name, content: archive.writestr(zipfile.ZipInfo(name), content)
    elif out.suffix == ".tar":
        with tarfile.open(out, "x") as tar:

            def add(name: str, content: bytes) -> None:
                member = tarfile.TarInfo(name)
                member.size = len(content)
                tar.addfile(member, BytesIO(content))

            yield add
    else:
        yield lambda name, content: write_atomically(out / name, content)


def _run_folders(root: AnyPath) -> Iterator[AnyPath]:
    """Yield the run folders at a place, in it, and one level below that."""
    if (root / "run.json").is_file():
        yield root
        return
    names = names_in(root)
    if not names and not (is_remote(root) or root.is_dir()):
        raise MissingDataError(f"{root}: no such folder. Name the folder that has the runs.")
    for name in names:
        folder = root / name
        if (folder / "run.json").is_file():
            yield folder
        elif is_remote(root) or folder.is_dir():
            for below in names_in(folder):
                if (folder / below / "run.json").is_file():
                    yield folder / below


def _summary(run: RunFolder, num_rows: int | None = None) -> dict[str, Any]:
    return {
        "path": str(run.path),
        "model": str(run.config.get("display_name", "")),
        "dataset": str(run.config.get("dataset", {}).get("name", "")),
        "num_rows": run.num_listed() if num_rows is None else num_rows,
        "num_wanted": _wanted(run),
        "num_parts": len(Parts(run.parts_path).names),
    }


def _wanted(run: RunFolder) -> int:
    return int(run.config.get("dataset", {}).get("n", 0))


def _print_lines(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        typer.echo(json.dumps(row, ensure_ascii=False))


def _say(text: str) -> None:
    console.print(text, soft_wrap=True, markup=False, highlight=False)
