"""Prompts and labels without a data set, from the command line to the run folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from evalkit import cli
from evalkit.commands.asking import generation_options, read_prompts
from evalkit.core.errors import ConfigError, DataError, EvalkitError, MissingDataError
from evalkit.core.run import RunFolder
from evalkit.core.seeding import image_seed
from evalkit.generation import run_fingerprint
from evalkit.options import RequestOptions, SamplingOptions
from evalkit.requests import DatasetSource, LabelSource, PromptSource, prompt_id

FAST = ["--steps", "base=2,upsampler=1", "--device", "cpu"]


def generate(out: Path, *words: str, model: str = "glide:tiny") -> RunFolder:
    cli.app(["generate", "--model", model, "--out", str(out), *words], standalone_mode=False)
    return RunFolder.read(out)


def test_prompts_of_ones_own_become_a_run(tmp_path: Path) -> None:
    run = generate(
        tmp_path / "a", "--prompt", "a red circle", "--prompt", "a blue square", "--n", "3", *FAST
    )
    rows = run.rows()
    assert [row.prompt for row in rows] == ["a red circle", "a blue square", "a red circle"]
    assert [row.sample_index for row in rows] == [0, 0, 1]
    assert rows[2].seed == image_seed(0, prompt_id("a red circle"), 1)
    assert rows[0].image_id is None
    assert run_fingerprint(run)["training_relation"] == "unknown"
    pixels = [np.asarray(Image.open(run.image_path(row))) for row in rows]
    assert (pixels[0] != pixels[2]).any(), "a second sample has noise of its own"


def test_a_prompt_has_the_same_noise_in_any_list(tmp_path: Path) -> None:
    alone = generate(tmp_path / "a", "--prompt", "a red circle", *FAST)
    beside = generate(tmp_path / "b", "--prompt", "x", "--prompt", "a red circle", *FAST)
    assert alone.rows()[0].seed == beside.rows()[1].seed


def test_labels_of_ones_own_become_a_run(tmp_path: Path) -> None:
    run = generate(
        tmp_path / "a", "--labels", "2,0", "--n", "3", "--steps", "2", model="ddpm:tiny-class"
    )
    assert [row.label for row in run.rows()] == [2, 0, 2]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("p.txt", "a red circle\n\na blue square\n"),
        ("p.csv", "prompt\na red circle\na blue square\n"),
        ("p.tsv", "Prompt\tCategory\na red circle\tone\na blue square\ttwo\n"),
        ("p.jsonl", '{"prompt": "a red circle"}\n{"text": "a blue square"}\n'),
        ("p.jsonl", '"a red circle"\n\n"a blue square"\n'),
    ],
)
def test_files_of_prompts(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text, "utf-8")
    found = read_prompts(tmp_path / name)
    assert [prompt.text for prompt in found] == ["a red circle", "a blue square"]
    assert found[0].id == prompt_id("a red circle")


def test_ids_and_categories_of_a_file_are_kept(tmp_path: Path) -> None:
    table = tmp_path / "p.csv"
    table.write_text("id,prompt,category\n7,a red circle,colours\n", "utf-8")
    lines = tmp_path / "p.jsonl"
    lines.write_text('{"id": 7, "prompt": "a red circle", "category": "colours"}\n', "utf-8")
    for path in (table, lines):
        (prompt,) = read_prompts(path)
        assert (prompt.id, prompt.text, prompt.category) == ("7", "a red circle", "colours")


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("p.txt", "\n\n", "the file has no prompts"),
        ("p.csv", "words\na\n", "words"),
        ("p.jsonl", '{"promt": "a"}\n', "found promt"),
        ("p.jsonl", "{\n", "not valid JSON"),
        ("p.jsonl", '{"prompt": 3}\n', "'prompt' must be a text, got 3"),
        ("p.jsonl", '{"id": 1, "prompt": "a"}\n{"id": 1, "prompt": "b"}\n', "have the id '1'"),
        ("p.jsonl", '{"prompt": "a", "id": true}\n', "'id' must be a text or a whole number"),
        ("p.jsonl", '{"prompt": "a", "id": {"x": 1}}\n', "'id' must be a text"),
        ("p.csv", "prompt,id,category\na,1,x\na,1,y\n", "have the id '1'"),
        ("p.md", "a", "expected a file ending in"),
    ],
)
def test_files_that_are_no_prompts_are_told(
    tmp_path: Path, name: str, text: str, complaint: str
) -> None:
    (tmp_path / name).write_text(text, "utf-8")
    with pytest.raises(EvalkitError, match=complaint) as caught:
        read_prompts(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_an_empty_id_is_none(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text("prompt,id\na,7\nb,\nc,\n", "utf-8")
    ids = [prompt.id for prompt in read_prompts(tmp_path / "p.csv")]
    assert ids == ["7", prompt_id("b"), prompt_id("c")]


def test_half_a_surrogate_pair_is_refused(tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text('{"prompt": "a\\ud800b"}\n', "utf-8")
    with pytest.raises(DataError, match="half of a surrogate pair"):
        read_prompts(tmp_path / "p.jsonl")


def test_a_file_that_is_not_there() -> None:
    for name in ("no.txt", "no.jsonl"):
        with pytest.raises(MissingDataError, match="no such file"):
            read_prompts(Path(name))


@pytest.mark.parametrize(
    ("asked", "kind"),
    [
        ({"coco": True}, DatasetSource),
        ({"protocol": "shapes-1k"}, DatasetSource),
        ({"protocol": "shapes-1k", "data": "mine"}, DatasetSource),
        ({"data": "shapes"}, DatasetSource),
        ({"prompt": ("a",)}, PromptSource),
        ({"labels": (1,)}, LabelSource),
    ],
)
def test_what_is_asked_for_is_one_thing(asked: dict[str, Any], kind: type) -> None:
    options = generation_options("m", RequestOptions(**asked), SamplingOptions(), None)
    assert isinstance(options.source, kind)


def test_coco_is_a_protocol() -> None:
    found = generation_options("m", RequestOptions(coco=True), SamplingOptions(), None).source
    named = generation_options(
        "m", RequestOptions(protocol="imagen-30k"), SamplingOptions(), None
    ).source
    assert found == named
    assert isinstance(found, DatasetSource)
    assert (found.name, found.n) == ("coco", None)
    own = RequestOptions(protocol="shapes-1k", data="mine")
    assert generation_options("m", own, SamplingOptions(), None).source.name == "mine"


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"coco": True, "data": "shapes"},
        {"coco": True, "protocol": "shapes-1k"},
        {"prompt": ("a",), "labels": (1,)},
        {"prompt": ("a",), "prompts": Path("x.txt")},
        {"prompt": ("a",), "protocol": "shapes-1k"},
        {"prompt": ("a",), "coco_root": Path("coco")},
    ],
)
def test_nothing_or_two_things_are_refused(asked: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"one of|applies to|only one"):
        generation_options("m", RequestOptions(**asked), SamplingOptions(), None)


def test_the_seed_of_a_protocol_holds_unless_one_is_typed(tmp_path: Path) -> None:
    from evalkit.protocols import catalog

    text = Path(catalog.__file__).with_name("shapes-1k.toml").read_text("utf-8")
    path = tmp_path / "mine.toml"
    path.write_text(text.replace("seed = 0", "seed = 5").replace('"shapes-1k"', '"mine"'), "utf-8")
    asked = RequestOptions(protocol=str(path))
    assert generation_options("m", asked, SamplingOptions(), None).sampling.seed == 5
    typed = SamplingOptions(seed=0, typed=frozenset({"seed"}))
    assert generation_options("m", asked, typed, None).sampling.seed == 0


@pytest.mark.parametrize(
    ("model", "words", "complaint"),
    [
        ("ddpm:tiny-class", ["--prompt", "a"], "takes no prompts; it takes classes"),
        ("ddpm:tiny", ["--prompt", "a"], "takes no prompts; it is unconditional"),
        ("glide:tiny", ["--labels", "1"], "takes no labels; it takes prompts"),
        ("ddpm:tiny-class", ["--labels", "1,99"], "has no label 99; its labels are 0 to"),
        ("ddpm:tiny-class", ["--labels=-1"], "-1 is no label"),
        ("ddpm:tiny-class", ["--labels", "a"], "--labels expects whole numbers"),
        ("glide:tiny", ["--prompt", " "], "Prompt 1 of 1 is blank"),
    ],
)
def test_a_model_is_asked_for_what_it_takes(
    tmp_path: Path, model: str, words: list[str], complaint: str
) -> None:
    with pytest.raises(ConfigError, match=complaint):
        generate(tmp_path / "r", *words, model=model)
    assert not (tmp_path / "r").exists()


def test_a_killed_run_of_prompts_goes_on(tmp_path: Path) -> None:
    words = ["--prompt", "a red circle", "--prompt", "b", "--batch-size", "1", *FAST]
    whole = generate(tmp_path / "r", *words)
    before = (tmp_path / "r" / "manifest.jsonl").read_bytes()
    lines = before.splitlines(keepends=True)
    (tmp_path / "r" / "manifest.jsonl").write_bytes(lines[0])
    assert json.loads(lines[0])["index"] == 0
    generate(tmp_path / "r", *words)
    assert (tmp_path / "r" / "manifest.jsonl").read_bytes() == before
    assert len(whole.rows()) == 2
