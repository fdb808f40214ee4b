"""What raters read: one file per language, checked against the English one, kept by the study."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import BaseModel
from typer.testing import CliRunner

from drawbench.cli import app
from drawbench.errors import RefusedError, StudyError
from drawbench.store import open_store
from drawbench.store.backup import back_up, restore
from drawbench.store.registration import document_sha256
from drawbench.study import Study, load_study
from drawbench.study.design import load_preset, make_config, preset_names
from drawbench.study.folder import DOCUMENT
from drawbench.study.texts import Texts, english, english_file, read_texts
from evalkit.core.errors import MissingDataError

NewStudy = Callable[..., Study]


def changed(tmp_path: Path, old: str, new: str) -> Path:
    """The English file with one change."""
    assert english_file().count(old) == 1, old
    path = tmp_path / "mine.toml"
    path.write_text(english_file().replace(old, new), "utf-8")
    return path


def test_the_english_file_is_read_like_any_other(tmp_path: Path) -> None:
    path = tmp_path / "en.toml"
    path.write_text(english_file(), "utf-8")
    assert read_texts(path) == english()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('start = "Start"\n', "", r"the key welcome\.start is missing"),
        ('start = "Start"', 'begin = "Start"', r"welcome\.begin is not a key"),
        ("{page} of {pages}", "{page}", r"rating\.progress has .* \{page\}, expected .*pages"),
        ("Write to {contact}.", "Write to {adress}.", r"welcome\.contact has .* \{adress\}"),
        ('start = "Start"', "start = 5", r"welcome\.start: .*string.*got 5"),
        ('start = "Start"', 'start = " "', r"welcome\.start: .*at least 1 character"),
        ('side_name = "Grid"', 'side_name = "<b>"', r"unclip-diversity\.side_name"),
        ('first = "Grid A", ', "", r"questions\.diversity\.answers\.first is missing"),
        ('more diverse?"', 'more diverse, {colour}?"', r"diversity\.text has .*\{colour\}"),
        ("[pause]", "[pause", "not a TOML file of texts"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(
    old: str, new: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(StudyError, match=message):
        read_texts(changed(tmp_path, old, new))


def test_a_missing_file_names_the_command_that_makes_one(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match="evalkit drawbench texts --out"):
        read_texts(tmp_path / "none.toml")


def test_a_question_may_show_the_prompt_or_not(tmp_path: Path) -> None:
    old = "better represents the text caption : {caption}?"
    texts = read_texts(changed(tmp_path, old, "better fits the caption?"))
    config = make_config({**load_preset("imagen-drawbench", texts), "models": ["m1", "m2"]})
    assert config.questions[1].text == "Which set of images better fits the caption?"
    assert "raters read other texts (language: en)" in config.source


def test_every_preset_finds_its_wording() -> None:
    assert set(english().presets) == set(preset_names())
    for name in preset_names():
        raw = tomllib.loads(english_file())["presets"][name]["questions"]
        asked = {question["id"]: question for question in load_preset(name)["questions"]}
        assert list(raw) == list(asked)
        for key, question in asked.items():
            offered = [answer["value"] for answer in question["answers"]]
            assert list(raw[key]["answers"]) == offered


def test_each_key_is_used(root: Path) -> None:
    """A text that no code reads would be translated in vain."""
    sections = {
        name: field.annotation
        for name, field in Texts.model_fields.items()
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
    }
    assert len(sections) == 9
    files = [p for p in (root / "drawbench").rglob("*") if p.suffix in {".py", ".js", ".html"}]
    code = {p: p.read_text("utf-8") for p in files if p.name != "texts.py"}
    for section, model in sections.items():
        readers = [text for text in code.values() if re.search(rf"\.{section}\b", text)]
        if section == "images":
            readers += [text for path, text in code.items() if path.stem == "sets"]
        for key in model.model_fields:
            pattern = rf"""(?:\.|data-(?:text|label)="){key}\b"""
            assert any(re.search(pattern, text) for text in readers), f"{section}.{key}"


def test_a_study_keeps_its_texts_and_speaks_them(new_study: NewStudy, tmp_path: Path) -> None:
    path = changed(tmp_path, "This study is full", "Alles voll: taken")
    study = new_study(texts=read_texts(path), raters_per_item=1)
    path.unlink()
    assert load_study(study.path).texts == study.texts != english()
    store = open_store(study, create=True)
    for _ in study.blocks:
        store.join()
    with pytest.raises(RefusedError, match="Alles voll"):
        store.join()
    archive = tmp_path / "study.zip"
    back_up(store, archive)
    store.database.close()
    restore(archive, tmp_path / "copy")
    assert load_study(tmp_path / "copy").texts == study.texts


def test_a_study_made_before_texts_were_kept_reads_english_and_keeps_its_hash(
    new_study: NewStudy,
) -> None:
    study = new_study()
    raw = json.loads((study.path / DOCUMENT).read_text("utf-8"))
    del raw["texts"]
    (study.path / DOCUMENT).write_text(json.dumps(raw, indent=2), "utf-8")
    old = load_study(study.path)
    assert old.document.texts is None
    assert old.texts == english()
    assert "texts" not in json.loads(old.document.model_dump_json())
    assert document_sha256(old) != document_sha256(study)


def test_changing_the_texts_of_a_running_study_is_noticed(new_study: NewStudy) -> None:
    study = new_study()
    open_store(study, create=True).database.close()
    file = study.path / DOCUMENT
    file.write_text(file.read_text("utf-8").replace('"Start"', '"Los"'), "utf-8")
    with pytest.raises(StudyError, match="was changed after raters were assigned"):
        open_store(load_study(study.path))


def test_texts_that_name_a_model_are_refused(new_study: NewStudy, tmp_path: Path) -> None:
    texts = read_texts(changed(tmp_path, '"Paused"', '"Paused by Zephyr-9"'))
    with pytest.raises(StudyError, match="name of model 'Zephyr-9'"):
        new_study(texts=texts, models=["Zephyr-9", "other"])


def test_the_command_writes_the_english_file_once(tmp_path: Path) -> None:
    assert CliRunner().invoke(app, ["texts"]).stdout == english_file()
    path = tmp_path / "mine.toml"
    done = CliRunner().invoke(app, ["texts", "--out", str(path)])
    assert done.exit_code == 0, done.output
    assert read_texts(path) == english()
    again = CliRunner().invoke(app, ["texts", "--out", str(path)])
    assert isinstance(again.exception, StudyError)
