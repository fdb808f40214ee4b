"""The form of a run that several processes write, its checks, and its merge."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from fake_generators import SeededNoise, noise_items

from evalkit.commands import run_folders
from evalkit.commands.sets import open_samples
from evalkit.core.compaction import compact
from evalkit.core.errors import ConfigError, RunFolderError
from evalkit.core.run import WHOLE, RunFolder, Shard
from evalkit.core.run_checks import verify
from evalkit.engine import generate

BATCH, N = 4, 10
CONFIG = {"model": "noise", "seed": 0, "display_name": "noise", "dataset": {"name": "d", "n": N}}


def make(path: Path, shard: Shard = WHOLE, die_after: int | None = None) -> RunFolder:
    run = RunFolder.create_or_resume(path, CONFIG)
    generate(run, SeededNoise(die_after), {}, noise_items(N), batch_size=BATCH, shard=shard)
    return run


def contents(run: RunFolder) -> dict[str, bytes]:
    kept = [p for p in run.path.rglob("*") if p.suffix == ".png" or p.name == "manifest.jsonl"]
    return {str(p.relative_to(run.path)): p.read_bytes() for p in sorted(kept)}


@pytest.fixture
def whole(tmp_path: Path) -> dict[str, bytes]:
    return contents(make(tmp_path / "whole"))


def in_shards(path: Path, numbers: Sequence[int] = (1, 2)) -> RunFolder:
    for number in numbers:
        run = make(path, Shard(number, 2))
    return run


def test_shards_merge_into_the_same_bytes(tmp_path: Path, whole: dict[str, bytes]) -> None:
    run = in_shards(tmp_path / "cut")
    assert not run.manifest_path.exists()
    assert [row.index for row in run.rows()] == list(range(N))
    assert run_folders.merge(run) == 3
    assert contents(run) == whole
    assert not run.parts_path.exists()
    assert [row["first_index"] for row in run.timings()] == [0, 4, 8]


def test_a_merge_without_a_shard_names_what_is_missing(tmp_path: Path) -> None:
    run = in_shards(tmp_path, [2])
    with pytest.raises(RunFolderError, match=r"lacks 6 \(0 to 3, 8 to 9\) of 10 images"):
        run_folders.merge(run)
    assert verify(run).counts == {"missing rows": 1}


def test_a_merge_that_was_killed_is_ended_by_another(
    tmp_path: Path, whole: dict[str, bytes]
) -> None:
    run = in_shards(tmp_path / "cut")
    parts = {p.name: p.read_bytes() for p in run.parts_path.iterdir()}
    compact(run, N)
    run.parts_path.mkdir()
    for name, content in list(parts.items())[1:]:  # killed while it deleted them
        (run.parts_path / name).write_bytes(content)
    assert [row.index for row in run.rows()] == list(range(N))
    run_folders.merge(run)
    assert contents(run) == whole


@pytest.mark.parametrize("cut", [20, 0])
def test_a_torn_part_is_found_and_made_again(
    tmp_path: Path, whole: dict[str, bytes], cut: int
) -> None:
    run = in_shards(tmp_path / "cut")
    part = sorted(run.parts_path.iterdir())[1]
    part.write_bytes(part.read_bytes()[:cut])
    assert verify(run).counts == {"damaged part": 1, "missing rows": 1}
    with pytest.raises(RunFolderError, match="damaged: 0 of 5 lines"):
        run.rows()
    make(run.path)  # the whole run resumes what shards began, and merges it
    assert contents(run) == whole


@pytest.mark.parametrize("damage", ["truncated", "altered", "deleted"])
@pytest.mark.parametrize("form", ["parts", "manifest"])
def test_a_damaged_image_is_found_and_made_again(
    tmp_path: Path, whole: dict[str, bytes], damage: str, form: str
) -> None:
    run = in_shards(tmp_path / "cut") if form == "parts" else make(tmp_path / "cut")
    image = run.image_path(run.rows()[5])
    content = image.read_bytes()
    if damage == "deleted":
        image.unlink()
    else:
        image.write_bytes(content[:30] if damage == "truncated" else content[:-9] + b"abcdefghi")
    kind = "missing image" if damage == "deleted" else "altered image"
    assert verify(run).counts == {kind: 1}
    generator = SeededNoise()
    generate(run, generator, {}, noise_items(N), batch_size=BATCH)
    assert generator.made == BATCH
    assert contents(run) == whole
    assert verify(run).is_intact


def test_a_shard_mends_an_image_of_a_merged_run(tmp_path: Path, whole: dict[str, bytes]) -> None:
    run = make(tmp_path / "merged")
    run.image_path(run.rows()[5]).unlink()
    make(run.path, Shard(1, 2))  # has the batches 0 and 2
    assert verify(run).counts == {"missing image": 1}
    make(run.path, Shard(2, 2))
    assert verify(run).is_intact, "the part goes before the manifest"
    assert run.num_rows() == N
    run_folders.merge(run)
    assert contents(run) == whole


def test_lines_that_two_processes_appended_are_found_and_mended(
    tmp_path: Path, whole: dict[str, bytes]
) -> None:
    run = make(tmp_path / "twice")
    lines = run.manifest_path.read_bytes().splitlines(keepends=True)
    mixed = [
        *lines[:6],
        lines[7][:40] + lines[6],
        *lines[5:],
        lines[2].replace(b'"ok"', b'"failed"'),
    ]
    run.manifest_path.write_bytes(b"".join(mixed) + lines[0][:30])
    assert verify(run).counts == {"torn line": 1, "damaged line": 1, "repeated index": 2}
    generator = SeededNoise()
    generate(run, generator, {}, noise_items(N), batch_size=BATCH)
    assert generator.made == BATCH, "only the batch whose row was changed"
    assert contents(run) == whole


def test_parts_of_two_batch_sizes_are_refused(tmp_path: Path) -> None:
    run = in_shards(tmp_path)
    (run.parts_path / "000000002-000000006.jsonl").write_bytes(b"")
    with pytest.raises(RunFolderError, match="overlap"):
        run.rows()


def test_one_shard_at_a_time(tmp_path: Path) -> None:
    run = in_shards(tmp_path)
    with run.locked(Shard(1, 2)), run.locked(Shard(2, 2)):
        for shard in (Shard(1, 2), WHOLE):
            with pytest.raises(RunFolderError, match="another process"), run.locked(shard):
                pass


def test_an_exported_run_reads_as_images_with_captions(tmp_path: Path) -> None:
    run = make(tmp_path / "run")
    for out in (tmp_path / "out", tmp_path / "out.zip", tmp_path / "out.tar"):
        assert run_folders.export(run, out) == N
        found = open_samples(str(out)).items
        assert [item.caption_id for item in found] == [row.caption_id for row in run.rows()]
        assert len({item.name for item in found}) == N
        assert {item.caption for item in found} == {row.prompt for row in run.rows()}
        with pytest.raises(ConfigError, match="exists already"):
            run_folders.export(run, out)
    run.image_path(run.rows()[3]).write_bytes(b"other")
    with pytest.raises(RunFolderError, match="altered"):
        run_folders.export(run, tmp_path / "again")


def test_a_run_is_listed_shown_and_removed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = in_shards(tmp_path / "runs" / "one")
    (tmp_path / "runs" / "damaged").mkdir()
    (tmp_path / "runs" / "damaged" / "run.json").write_text("{")
    assert run_folders.list_runs(tmp_path / "runs", as_json=True) == 2
    shown = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert "damaged" in shown[0]["error"]
    assert (shown[1]["num_rows"], shown[1]["num_wanted"], shown[1]["num_parts"]) == (N, N, 3)
    run_folders.show(run, as_json=True)
    assert json.loads(capsys.readouterr().out)["statuses"] == {"ok": N}
    assert not run_folders.remove_run(run, yes=False, ask=lambda question: False)
    assert run_folders.remove_run(run, yes=True)
    assert not run.path.exists()


def test_verify_says_what_is_wrong_and_how_to_mend_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make(tmp_path)
    run_folders.verify(run)
    run.image_path(run.rows()[5]).unlink()
    with pytest.raises(RunFolderError, match="1 x missing image"):
        run_folders.verify(run, as_json=True)
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["detail"] == "index 5"
