"""No file ends in a traceback: every reader takes it, or says in one sentence what is wrong.

A reader may raise an `EvalkitError` and nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from evalkit.core.errors import EvalkitError
from tests.fuzz import examples
from tests.fuzz.damage import (
    changed_json,
    changed_lines,
    changed_table,
    changed_toml,
    damaged,
)

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

EXAMPLES = 500
"""Bad files per reader."""


@dataclass(frozen=True)
class Reader:
    """One reader, the name of the file that it takes, and bad ones."""

    file: str
    read: Callable[[Path], object]
    bad: st.SearchStrategy[bytes]
    prepare: Callable[[Path], object] = lambda folder: None
    """Writes what else the reader needs into the folder."""


def _image(path: Path) -> object:
    from evalkit.core.pixels import read_rgb

    return read_rgb(path)


def _archive(path: Path) -> object:
    from evalkit.datasets.image_folder import open_captioned_set

    found = open_captioned_set(path)
    return [source.read_bytes() for source in found.files.images.values()]


def _samples(path: Path) -> object:
    from evalkit.features.sources import image_items

    return image_items(path)


def _statistics(path: Path) -> object:
    from evalkit.metrics.statistics_files import is_statistics_file, read_statistics

    return is_statistics_file(path), read_statistics(path)


def _moments(path: Path) -> object:
    from evalkit.metrics.frechet.moments import Moments

    return Moments.load(path)


def _captions(path: Path) -> object:
    from evalkit.datasets.image_folder import load_captioned_folder

    return load_captioned_folder(path.parent).captions_sha256


def _write_coco(folder: Path) -> None:
    (folder / "val2014").mkdir(exist_ok=True)
    for name in ("a.png", "b.png"):
        (folder / "val2014" / name).write_bytes(examples.picture())


def _coco(path: Path) -> object:
    from evalkit.datasets.coco import load_coco

    return load_coco(path.parents[1]).captions_sha256


def _prompts(path: Path) -> object:
    from evalkit.commands.asking import read_prompts

    return read_prompts(path)


def _suite(path: Path) -> object:
    from drawbench.suites import load_suite

    return load_suite(f"mine={path}")


def _votes(path: Path) -> object:
    from drawbench.votes import read_votes, votes_sha256

    return votes_sha256(read_votes(path))


def _scores(path: Path) -> object:
    from drawbench.stats.agreement import read_scores

    return read_scores(path)


def _imported(form: str) -> Callable[[Path], object]:
    def read(path: Path) -> object:
        from drawbench.exchange.formats import import_votes

        return import_votes(path, form=form)

    return read


def _records(path: Path) -> object:
    from evalkit.core.results import read_records

    return read_records(path)


def _protocol(path: Path) -> object:
    from evalkit.protocols.catalog import open_protocol

    return open_protocol(str(path))


def _gate(path: Path) -> object:
    from evalkit.gate.definition import read_gate

    return read_gate(path)


def _study_settings(path: Path) -> object:
    from drawbench.study.design import make_config, read_config_file

    return make_config(read_config_file(path))


def _texts(path: Path) -> object:
    from drawbench.study.texts import read_texts

    return read_texts(path)


def _card(path: Path) -> object:
    from drawbench.report.card import read_card

    return read_card(path)


def _vocabulary(path: Path) -> object:
    from generators.tokenizer import BytePairTokenizer

    return BytePairTokenizer.from_files(path, path)


def _shard(path: Path) -> object:
    from evalkit.features.store import FeatureStore

    store = FeatureStore(path.parents[1])
    return [stored.num_rows for stored in store.contents()], store.open({"extractor": "e"}, 4)


def _manifest(path: Path) -> object:
    from evalkit.core.run import RunFolder

    run = RunFolder.read(path.parent)
    return [run.image_path(row) for row in run.rows()], run.timings()


def _write_run(folder: Path) -> None:
    from evalkit.core.run import RunFolder

    if not (folder / "run.json").is_file():
        RunFolder.create_or_resume(folder, {"seed": 0})


def _spec_of_shapes(path: Path) -> object:
    from evalkit.datasets.shapes.dataset import is_shapes

    return is_shapes(path.parent)


def _write_shapes(folder: Path) -> None:
    (folder / "annotations").mkdir(exist_ok=True)
    (folder / "annotations/captions_val.json").write_text(json.dumps(examples.COCO))
    (folder / "val").mkdir(exist_ok=True)
    for name in ("a.png", "b.png"):
        (folder / "val" / name).write_bytes(examples.picture())


def _study(path: Path) -> object:
    from drawbench.study import load_study

    return load_study(path.parent)


def _restored(path: Path) -> object:
    from drawbench.store.backup import restore

    with TemporaryDirectory(prefix="evalkit-fuzz-") as folder:
        return restore(path, Path(folder) / "study", "")


def _shipped(package: str, name: str) -> str:
    return (files(package) / name).read_text("utf-8")


PROTOCOL = _shipped("evalkit.protocols", "imagen-30k.toml")
SETTINGS = _shipped("drawbench.study", "presets/imagen-drawbench.toml")
TEXTS = _shipped("drawbench.study", "languages/en.toml")
GATE = """alpha = 0.05
superior-any = ["kid"]
[margins]
clip-score = 0.2
[bounds]
psnr = 30
[measure]
features = "dinov2"
"""
CARD = """title = "t"
raters = "students"
images_per_side = 4
screenshots = ["a.png"]
questions = {q = "Q?"}
"""


def _lines(rows: Sequence[Any]) -> list[bytes]:
    return ["".join(json.dumps(row) + "\n" for row in rows).encode()]


def _of_table(text: str, *, tabs: bool = False) -> st.SearchStrategy[bytes]:
    return st.one_of(changed_table(text, tabs=tabs), damaged([text.encode()]))


def _of_lines(rows: Sequence[Any]) -> st.SearchStrategy[bytes]:
    return st.one_of(changed_lines(rows), damaged(_lines(rows)))


def _of_json(document: Any) -> st.SearchStrategy[bytes]:
    return st.one_of(changed_json(document), damaged([json.dumps(document).encode()]))


def _of_toml(text: str) -> st.SearchStrategy[bytes]:
    return st.one_of(changed_toml(text), damaged([text.encode()]))


@st.composite
def _of_backup(draw: st.DrawFn) -> bytes:
    """A whole zip in which one file has other content."""
    valid = examples.members_of(BACKUPS[0])
    name = draw(st.sampled_from([name for name in valid if not name.endswith(".png")]))
    if name.endswith(".jsonl"):
        rows = [json.loads(line) for line in valid[name].splitlines()]
        content = draw(changed_lines(rows))
    else:
        content = draw(changed_json(json.loads(valid[name])))
    return examples.zipped({**valid, name: content})


BACKUPS = examples.backups()
READERS = {
    "image": Reader("a.png", _image, damaged(examples.pictures())),
    "archive": Reader("set.zip", _archive, damaged(examples.archives())),
    "sample batch": Reader("samples.npz", _samples, damaged(examples.sample_batches())),
    "statistics": Reader("stats.npz", _statistics, damaged(examples.statistics())),
    "moments": Reader("stats.npz", _moments, damaged(examples.statistics())),
    "captions.csv": Reader(
        "captions.csv", _captions, _of_table(examples.CAPTIONS_CSV), examples.write_folder
    ),
    "metadata.jsonl": Reader(
        "metadata.jsonl", _captions, _of_lines(examples.CAPTIONS), examples.write_folder
    ),
    "coco": Reader(
        "annotations/captions_val2014.json", _coco, _of_json(examples.COCO), _write_coco
    ),
    "prompts.txt": Reader("p.txt", _prompts, damaged([examples.PROMPTS_TXT.encode()])),
    "prompts.csv": Reader("p.csv", _prompts, _of_table(examples.PROMPTS_CSV)),
    "prompts.tsv": Reader("p.tsv", _prompts, _of_table(examples.PROMPTS_TSV, tabs=True)),
    "prompts.jsonl": Reader("p.jsonl", _prompts, _of_lines(examples.PROMPTS_JSONL)),
    "suite.csv": Reader("p.csv", _suite, _of_table(examples.PROMPTS_CSV)),
    "suite.tsv": Reader("p.tsv", _suite, _of_table(examples.PROMPTS_TSV, tabs=True)),
    "suite.txt": Reader("p.txt", _suite, damaged([examples.PROMPTS_TXT.encode()])),
    "votes": Reader("votes.csv", _votes, _of_table(examples.VOTES)),
    "scores": Reader("scores.csv", _scores, _of_table(examples.SCORES)),
    "label-studio": Reader("e.json", _imported("label-studio"), _of_json(examples.LABEL_STUDIO)),
    "mturk": Reader("e.csv", _imported("mturk"), _of_table(examples.MTURK)),
    "prolific": Reader("e.csv", _imported("prolific"), _of_table(examples.PROLIFIC)),
    "arena.jsonl": Reader("e.jsonl", _imported("arena"), _of_lines(examples.ARENA)),
    "arena.json": Reader("e.json", _imported("arena"), _of_json(examples.ARENA)),
    "pick-a-pic": Reader("e.json", _imported("pick-a-pic"), _of_json(examples.PICKS)),
    "records": Reader("results.json", _records, _of_json(examples.RECORDS)),
    "protocol": Reader("p.toml", _protocol, _of_toml(PROTOCOL)),
    "gate": Reader("g.toml", _gate, _of_toml(GATE)),
    "study settings": Reader("s.toml", _study_settings, _of_toml(SETTINGS)),
    "texts": Reader("t.toml", _texts, _of_toml(TEXTS)),
    "card": Reader("c.toml", _card, _of_toml(CARD)),
    "run.json": Reader("run.json", _manifest, _of_json(examples.run_document())),
    "manifest": Reader("manifest.jsonl", _manifest, _of_lines(examples.MANIFEST), _write_run),
    "timings": Reader("timings.jsonl", _manifest, _of_lines(examples.TIMINGS), _write_run),
    "shapes.json": Reader(
        "shapes.json", _spec_of_shapes, _of_json({"seed": 0, "val": 2}), _write_shapes
    ),
    "study.json": Reader(
        "study/study.json",
        _study,
        _of_json(json.loads(examples.study_file("study.json"))),
        examples.write_study,
    ),
    "images.jsonl": Reader(
        "study/images.jsonl",
        _study,
        _of_lines([json.loads(line) for line in examples.study_file("images.jsonl").split()]),
        examples.write_study,
    ),
    "backup": Reader("backup.zip", _restored, st.one_of(_of_backup(), damaged(BACKUPS))),
    "vocabulary": Reader("v.json", _vocabulary, _of_json({"<|endoftext|>": 0, "a": 1})),
    "feature shard": Reader("0/a.npy", _shard, damaged([b"\x93NUMPY\x01\x00v\x00{'descr': 1}"])),
}


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with TemporaryDirectory(prefix="evalkit-fuzz-") as name:
        yield Path(name)


@pytest.mark.parametrize("name", READERS)
def test_a_bad_file_is_said_in_one_sentence(name: str, folder: Path) -> None:
    reader = READERS[name]
    path = folder / name.replace(" ", "-") / reader.file
    path.parent.mkdir(parents=True, exist_ok=True)
    reader.prepare(path.parents[len(Path(reader.file).parts) - 1])

    @settings(
        max_examples=EXAMPLES, deadline=None, database=None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(content=reader.bad)
    def check(content: bytes) -> None:
        path.write_bytes(content)
        said = ""
        try:
            reader.read(path)
        except EvalkitError as error:
            said = str(error)
        assert "\n" not in said.strip()

    check()
