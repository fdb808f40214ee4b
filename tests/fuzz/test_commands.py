"""No file ends in a traceback: every command that takes one exits with 0, 2 or 3.

The commands run in this process, as `evalkit` does; what is not an `EvalkitError` reaches the test.
"""

from __future__ import annotations

import functools
import json
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz import examples
from tests.fuzz.damage import (
    changed_json,
    changed_lines,
    changed_table,
    changed_toml,
    damaged,
)

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

EXAMPLES = 30
"""Bad files per command."""
ALLOWED = {0, 2, 3}

CHEAP = ("--features", "shapes-clip", "--clip-model", "shapes-clip", "--metrics", "fd,clip-score")
QUICK = ("--n", "1", "--steps", "base=1,upsampler=1")
GLIDE = ("--model", "glide:tiny")


@dataclass(frozen=True)
class Command:
    """A command line with BAD for the bad file, HERE for its folder and PICTURES for images."""

    line: str
    file: str
    bad: st.SearchStrategy[bytes]
    prepare: Callable[[Path], object] = lambda folder: None


@functools.cache
def _finished_run() -> dict[str, bytes]:
    """The files of a run of two images that was measured."""
    with TemporaryDirectory(prefix="evalkit-fuzz-") as name, pytest.MonkeyPatch.context() as patch:
        out = Path(name) / "run"
        line = ["generate", *GLIDE, "--prompt", "a red car", *QUICK, "--out", str(out)]
        assert _exit_code(line, patch) == 0
        (out / "results.json").write_text(json.dumps(examples.RECORDS))
        return {
            path.relative_to(out).as_posix(): path.read_bytes()
            for path in out.rglob("*")
            if path.is_file()
        }


def _run_folder(folder: Path) -> None:
    for name, content in _finished_run().items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def _store(folder: Path) -> None:
    """Make a study with its vote store."""
    from drawbench.store import open_store
    from drawbench.study import load_study

    path = examples.write_study(folder)
    open_store(load_study(path), create=True).database.close()


def _of_table(text: str) -> st.SearchStrategy[bytes]:
    return st.one_of(changed_table(text), damaged([text.encode()]))


def _of_json(document: object) -> st.SearchStrategy[bytes]:
    return st.one_of(changed_json(document), damaged([json.dumps(document).encode()]))


def _shipped(package: str, name: str) -> str:
    from importlib.resources import files

    return (files(package) / name).read_text("utf-8")


SET = st.one_of(damaged(examples.archives()))
CAPTIONS = st.one_of(
    changed_lines(examples.CAPTIONS), damaged([json.dumps(examples.CAPTIONS[0]).encode()])
)
CONVERT = "drawbench convert BAD --out HERE/out.csv --from"
NEW = "drawbench new HERE/s --suite shapes-bench --models a=PICTURES,b=PICTURES"
RESULTS = "drawbench results --out HERE/report"
COMMANDS = {
    "score samples": Command("score BAD --against PICTURES CHEAP", "set.zip", SET),
    "score a batch": Command(
        "score BAD --against PICTURES CHEAP", "set.npz", damaged(examples.sample_batches())
    ),
    "score reference": Command("score PICTURES --against BAD CHEAP", "set.zip", SET),
    "score statistics": Command(
        "score PICTURES --against BAD CHEAP", "stats.npz", damaged(examples.statistics())
    ),
    "score captions": Command(
        "score HERE --against PICTURES CHEAP", "metadata.jsonl", CAPTIONS, examples.write_folder
    ),
    "score protocol": Command(
        "score PICTURES --against PICTURES --protocol BAD CHEAP",
        "p.toml",
        st.one_of(changed_toml(_shipped("evalkit.protocols", "shapes-1k.toml")), damaged([b"a=1"])),
    ),
    "score run": Command(
        "score HERE --against PICTURES CHEAP", "manifest.jsonl",
        changed_lines([{**examples.MANIFEST[0], "prompt": "a red car"}]), _run_folder,
    ),
    "report run": Command(
        "report HERE", "manifest.jsonl", changed_lines(examples.MANIFEST), _run_folder
    ),
    "score image": Command(
        "score HERE --against PICTURES --skip-bad CHEAP", "a.png", damaged(examples.pictures()),
        examples.write_folder,
    ),
    "compare": Command(
        "compare BAD PICTURES --against PICTURES --html HERE/c.html CHEAP", "set.tar", SET
    ),
    "statistics": Command(
        "statistics BAD --out HERE/s.npz --features shapes-clip", "set.zip", SET
    ),
    "plan fid": Command(
        "plan fid BAD --against PICTURES --features shapes-clip", "set.zip", SET
    ),
    "report": Command("report HERE", "results.json", _of_json(examples.RECORDS), _run_folder),
    "report scores": Command(
        "report HERE", "scores.json", _of_json({"scores": {"0": 1.5}}), _run_folder
    ),
    "generate prompts": Command(
        "generate GLIDE --prompts BAD --out HERE/run QUICK", "p.csv",
        st.one_of(changed_table(examples.PROMPTS_CSV), damaged([b"prompt\n"])),
    ),
    "fid data": Command(
        "fid GLIDE --data HERE --out HERE/run QUICK CHEAP", "captions.csv",
        _of_table(examples.CAPTIONS_CSV), examples.write_folder,
    ),
    "vocabulary": Command(
        "vocabulary --data HERE --out HERE/v", "captions.csv", _of_table(examples.CAPTIONS_CSV),
        examples.write_folder,
    ),
    "cache": Command("cache --store HERE", "0/identity.json", _of_json({"extractor": "e"})),
    "suite": Command("drawbench suite mine=BAD", "p.csv", _of_table(examples.PROMPTS_CSV)),
    "new suite": Command(
        "drawbench new HERE/s --suite BAD --models north=PICTURES,south=PICTURES",
        "p.csv", _of_table(examples.PROMPTS_CSV),
    ),
    "new config": Command(
        f"{NEW} --config BAD", "c.toml",
        changed_toml(_shipped("drawbench.study", "presets/imagen-drawbench.toml")),
    ),
    "new texts": Command(
        f"{NEW} --texts BAD", "t.toml",
        changed_toml(_shipped("drawbench.study", "languages/en.toml")),
    ),
    "convert label-studio": Command(
        f"{CONVERT} label-studio", "e.json", _of_json(examples.LABEL_STUDIO)
    ),
    "convert mturk": Command(f"{CONVERT} mturk", "e.csv", _of_table(examples.MTURK)),
    "convert prolific": Command(f"{CONVERT} prolific", "e.csv", _of_table(examples.PROLIFIC)),
    "convert arena": Command(f"{CONVERT} arena", "e.jsonl", changed_lines(examples.ARENA)),
    "convert pick-a-pic": Command(f"{CONVERT} pick-a-pic", "e.json", _of_json(examples.PICKS)),
    "import votes": Command(
        "drawbench import HERE/study BAD", "v.csv", _of_table(examples.VOTES), _store
    ),
    "import label-studio": Command(
        "drawbench import HERE/study BAD --as label-studio", "e.json",
        _of_json([{"data": {"cell": 1}, "annotations": examples.LABEL_STUDIO[0]["annotations"]}]),
        _store,
    ),
    "import batch": Command(
        "drawbench import HERE/study BAD --as batch", "b.csv", _of_table(examples.SUBMISSIONS),
        _store,
    ),
    "results votes": Command(f"{RESULTS} --votes BAD", "v.csv", _of_table(examples.VOTES)),
    "results scores": Command(
        f"{RESULTS} --votes HERE/v.csv --scores BAD", "s.csv", _of_table(examples.SCORES),
        lambda folder: (folder / "v.csv").write_text(examples.VOTES),
    ),
    "results card": Command(
        f"{RESULTS} --votes HERE/v.csv --card BAD", "c.toml", changed_toml('title = "t"'),
        lambda folder: (folder / "v.csv").write_text(examples.VOTES),
    ),
    "plan pilot": Command("drawbench plan --pilot BAD", "v.csv", _of_table(examples.VOTES)),
    "restore": Command(
        "drawbench restore BAD HERE/restored", "b.zip", damaged(examples.backups())
    ),
    "status": Command(
        "drawbench status HERE/study", "study/study.json",
        _of_json(json.loads(examples.study_file("study.json"))), _store,
    ),
    "vote store": Command(
        "drawbench status HERE/study", "study/votes.sqlite", damaged([b"SQLite format 3\0" * 9]),
        _store,
    ),
    "clip-scores": Command(
        "drawbench clip-scores HERE/study --out HERE/s.csv --clip-model shapes-clip",
        "study/images.jsonl",
        changed_lines([json.loads(one) for one in examples.study_file("images.jsonl").split()]),
        _store,
    ),
    "inception weights": Command(
        "score PICTURES --against PICTURES --metrics fid --inception-weights BAD", "w.pth",
        damaged([b"PK\x03\x04" + bytes(60), b"\x80\x02}q\x00."]),
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def pictures() -> Iterator[Path]:
    with TemporaryDirectory(prefix="evalkit-fuzz-") as name:
        yield examples.write_folder(Path(name))


def _exit_code(line: list[str], monkeypatch: pytest.MonkeyPatch) -> object:
    from evalkit.cli import main

    monkeypatch.setattr(sys, "argv", ["evalkit", *line])
    try:
        main()
    except SystemExit as error:
        return error.code or 0
    return 0


@pytest.mark.parametrize("name", COMMANDS)
def test_a_bad_file_is_no_traceback(
    name: str,
    pictures: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    command = COMMANDS[name]
    here = tmp_path / "here"
    words = {"CHEAP": CHEAP, "QUICK": QUICK, "GLIDE": GLIDE}

    @settings(
        max_examples=EXAMPLES, deadline=None, database=None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(content=command.bad)
    def check(content: bytes) -> None:
        shutil.rmtree(here, ignore_errors=True)
        here.mkdir()
        command.prepare(here)
        bad = here / command.file
        bad.parent.mkdir(parents=True, exist_ok=True)
        bad.write_bytes(content)
        places = {"BAD": bad, "HERE": here, "PICTURES": pictures}
        line = []
        for word in command.line.split():
            for part in words.get(word, (word,)):
                for place, path in places.items():
                    part = part.replace(place, str(path))
                line.append(part)
        assert _exit_code(line, monkeypatch) in ALLOWED
        said = capsys.readouterr()
        assert "Traceback" not in said.out + said.err

    check()
