"""The run folder: resumed runs equal undisturbed ones, and damage is told."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from fake_generators import plain_spec

from evalkit.core.errors import RunFolderError
from evalkit.core.run import Outcome, RunFolder, WorkItem, config_hash
from evalkit.core.seeding import image_seed
from evalkit.engine import generate
from generators.base import Request, Sample

CONFIG = {"model": "noise", "seed": 0}
BATCH = 4


class Noise:
    """A generator of seeded noise that can die in the middle."""

    spec = plain_spec("noise")

    def __init__(self, die_after: int | None = None) -> None:
        self.left = die_after
        self.made = 0

    def generate(self, requests: Sequence[Request], settings: object) -> list[Sample]:
        if self.left == 0:
            raise KeyboardInterrupt
        if self.left is not None:
            self.left -= 1
        self.made += len(requests)
        return [
            Sample(np.random.default_rng(r.seed).integers(0, 256, (4, 4, 3), dtype=np.uint8))
            for r in requests
        ]


def items(n: int = 10) -> list[WorkItem]:
    return [
        WorkItem(
            index=i,
            caption_id=str(100 + i),
            sample_index=0,
            seed=image_seed(0, str(100 + i), 0),
            prompt="=1+1 \u2028 prompt",
        )
        for i in range(n)
    ]


def finish(path: Path, n: int = 10) -> RunFolder:
    run = RunFolder.create_or_resume(path, CONFIG)
    generate(run, Noise(), {}, items(n), batch_size=BATCH)
    return run


def contents(run: RunFolder) -> dict[str, bytes]:
    files = {str(p.relative_to(run.path)): p.read_bytes() for p in sorted(run.path.rglob("*.png"))}
    lines = sorted(run.manifest_path.read_bytes().splitlines())
    return {**files, "rows": b"\n".join(lines)}


def test_a_kill_before_the_first_rename_can_be_gone_on_from(tmp_path: Path) -> None:
    (tmp_path / ".run.json.123.tmp").write_text("{")
    run = RunFolder.create_or_resume(tmp_path, {"model": "m"})
    with run.locked():
        run.pending([], batch_size=1)
    assert not list(tmp_path.glob(".*.tmp"))


def test_an_interrupted_run_ends_as_an_undisturbed_one(tmp_path: Path) -> None:
    whole = finish(tmp_path / "whole")
    run = RunFolder.create_or_resume(tmp_path / "cut", CONFIG)
    with pytest.raises(KeyboardInterrupt):
        generate(run, Noise(die_after=1), {}, items(), batch_size=BATCH)
    assert len(run.rows()) == BATCH
    assert contents(finish(tmp_path / "cut")) == contents(whole)


def test_only_what_is_missing_is_made(tmp_path: Path) -> None:
    run = RunFolder.create_or_resume(tmp_path, CONFIG)
    with pytest.raises(KeyboardInterrupt):
        generate(run, Noise(die_after=2), {}, items(), batch_size=BATCH)
    again = Noise()
    generate(run, again, {}, items(), batch_size=BATCH)
    assert again.made == 2


def test_a_half_written_row_is_made_again(tmp_path: Path) -> None:
    whole = contents(finish(tmp_path / "whole"))
    run = finish(tmp_path / "cut")
    text = run.manifest_path.read_bytes()
    run.manifest_path.write_bytes(text[: len(text) - 20])
    assert contents(finish(tmp_path / "cut")) == whole


def test_a_damaged_image_is_made_again(tmp_path: Path) -> None:
    run = finish(tmp_path)
    whole = contents(run)
    image = run.image_path(run.rows()[5])
    image.write_bytes(image.read_bytes()[:30])
    assert contents(finish(tmp_path)) == whole


def test_left_over_temporary_files_are_removed(tmp_path: Path) -> None:
    run = finish(tmp_path)
    stray = run.path / "images" / "000" / ".000001.png.99.tmp"
    stray.write_bytes(b"half")
    finish(tmp_path)
    assert not stray.exists()


def test_another_configuration_is_refused_and_named(tmp_path: Path) -> None:
    finish(tmp_path)
    with pytest.raises(RunFolderError, match=r"seed: 0 there, 1 now"):
        RunFolder.create_or_resume(tmp_path, {**CONFIG, "seed": 1})


@pytest.mark.parametrize("found", ["file", "folder with something else"])
def test_a_foreign_place_is_not_touched(tmp_path: Path, found: str) -> None:
    target = tmp_path / "there"
    if found == "file":
        target.write_text("mine")
    else:
        target.mkdir()
        (target / "thesis.tex").write_text("mine")
    with pytest.raises(RunFolderError):
        RunFolder.create_or_resume(target, CONFIG)
    assert not (target / "run.json").exists()


def test_an_edited_configuration_is_noticed(tmp_path: Path) -> None:
    run = finish(tmp_path)
    document = json.loads((run.path / "run.json").read_text())
    document["config"]["seed"] = 7
    (run.path / "run.json").write_text(json.dumps(document))
    with pytest.raises(RunFolderError, match="edited"):
        RunFolder.read(tmp_path)


def test_a_second_writer_is_refused(tmp_path: Path) -> None:
    run = finish(tmp_path)
    with run.locked(), pytest.raises(RunFolderError, match="another process"), run.locked():
        pass


def test_a_damaged_row_is_named_by_its_line(tmp_path: Path) -> None:
    run = finish(tmp_path)
    lines = run.manifest_path.read_bytes().splitlines()
    lines[2] = b'{"index": 2}'
    run.manifest_path.write_bytes(b"\n".join(lines) + b"\n")
    with pytest.raises(RunFolderError, match="line 3"):
        run.rows()


def test_a_row_can_not_point_out_of_the_folder(tmp_path: Path) -> None:
    run = finish(tmp_path)
    text = run.manifest_path.read_text().replace("images/000/000001.png", "../../etc/passwd")
    run.manifest_path.write_text(text)
    with pytest.raises(RunFolderError, match="outside the run folder"):
        run.image_path(run.rows()[1])


def test_a_refused_sample_keeps_its_reason(tmp_path: Path) -> None:
    run = RunFolder.create_or_resume(tmp_path, CONFIG)
    item = items(1)
    run.add_batch(item, [Outcome(pixels=None, status="refused", reason="unsafe prompt")])
    row = run.rows()[0]
    assert (row.file, row.status, row.reason) == (None, "refused", "unsafe prompt")
    assert not run.pending(item, 1)


def test_the_hash_ignores_the_order_of_keys() -> None:
    assert config_hash({"a": 1, "b": 2}) == config_hash({"b": 2, "a": 1})
    assert config_hash({"a": 1}) != config_hash({"a": 2})
