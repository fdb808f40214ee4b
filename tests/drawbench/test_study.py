"""Presets, the items they lead to, and study files that must not be trusted."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from drawbench.errors import StudyError
from drawbench.simulation.raters import DRAWBENCH_SIZES
from drawbench.study.design import (
    StudyConfig,
    load_preset,
    make_config,
    preset_names,
    read_config_file,
)
from drawbench.study.folder import Study, StudyDocument, load_study
from evalkit.core.errors import MissingDataError, UnknownNameError


def _document(config: StudyConfig, sizes: dict[str, int]) -> StudyDocument:
    prompts = [
        {
            "id": f"p-{category.lower().replace(' ', '')}-{k}",
            "text": f"{category} {k}",
            "category": category,
        }
        for category, size in sizes.items()
        for k in range(size)
    ]
    raw = {
        "uid": "0" * 32,
        "config": json.loads(config.model_dump_json()),
        "suite": {"name": "t", "sha256": "0"},
        "prompts": prompts,
        "models": [],
    }
    return StudyDocument.model_validate_json(json.dumps(raw))


def test_the_papers_preset_has_its_wording_sets_quota_and_275_raters() -> None:
    config = make_config({**load_preset("imagen-drawbench"), "models": ["x1", "x2"]})
    assert [question.text for question in config.questions] == [
        "Which set of images is of higher quality?",
        "Which set of images better represents the text caption : {caption}?",
    ]
    for question in config.questions:
        assert [answer.label for answer in question.answers] == [
            "I prefer set A",
            "I am indifferent",
            "I prefer set B",
        ]
    assert (config.images_per_side, config.raters_per_item, config.num_checks) == (8, 25, 0)
    study = Study(Path(), _document(config, dict(DRAWBENCH_SIZES)), ())
    assert {block: len(items) for block, items in study.blocks.items()} == DRAWBENCH_SIZES
    assert len(study.blocks) * config.raters_per_item == 275


def test_coco_shows_each_prompt_once_to_a_rater_and_all_three_comparisons_in_all() -> None:
    config = make_config({**load_preset("imagen-coco"), "models": ["ours"], "reference": "camera"})
    assert config.comparisons() == (("ours", "camera"), ("ours", ""), ("camera", ""))
    study = Study(Path(), _document(config, {"all": 200}), ())
    for items in study.blocks.values():
        assert len({item.prompt_id for item in items}) == len(items) == 50
    per_prompt = Counter(item.prompt_id for item in study.items.values())
    assert set(per_prompt.values()) == {3}
    scores = {answer.value: answer.score for answer in config.questions[1].answers}
    assert scores == {"yes": 100, "somewhat": 50, "no": 0}


def test_a_tournament_is_balanced_over_pairs_and_groups() -> None:
    config = make_config({**load_preset("imagen-drawbench"), "models": ["m1", "m2", "m3"]})
    study = Study(Path(), _document(config, {"Colors": 6, "Text": 5}), ())
    assert len(study.blocks) == 2 * 3
    for items in study.blocks.values():
        pairs = Counter((item.model_a, item.model_b) for item in items)
        assert max(pairs.values()) - min(pairs.values()) <= 1
        assert len({item.prompt_id for item in items}) == len(items)
    assert len(study.items) == 11 * 3


def test_mixed_hands_hold_all_categories() -> None:
    settings = {**load_preset("imagen-drawbench"), "models": ["m1", "m2"]}
    config = make_config({**settings, "layout": "mixed", "items_per_rater": 10})
    study = Study(Path(), _document(config, {"a": 20, "b": 10}), ())
    assert len(study.blocks) == 3
    for items in study.blocks.values():
        counts = Counter(item.category for item in items)
        assert len(items) == 10
        assert 6 <= counts["a"] <= 7


def test_large_categories_can_be_divided_into_hands() -> None:
    settings = {**load_preset("imagen-drawbench"), "models": ["m1", "m2"], "items_per_rater": 10}
    study = Study(Path(), _document(make_config(settings), {"a": 25, "b": 7}), ())
    assert {name: len(items) for name, items in study.blocks.items()} == {
        "a 1": 9,
        "a 2": 8,
        "a 3": 8,
        "b": 7,
    }


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_is_complete(name: str) -> None:
    reference = {"reference": "camera"} if name == "imagen-coco" else {}
    config = make_config({**load_preset(name), "models": ["m1", "m2"], **reference})
    assert config.preset == name
    assert config.source


def test_unclip_shows_grids_of_sixteen_and_offers_not_sure() -> None:
    config = make_config({**load_preset("unclip-diversity"), "models": ["m1", "m2"]})
    assert config.images_per_side == 16
    assert [a.label for a in config.questions[0].answers] == ["Grid A", "Not sure", "Grid B"]


def test_own_settings_come_from_a_file_and_may_build_on_a_preset(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('preset = "glide-pairwise"\nraters_per_item = 3\n', "utf-8")
    config = make_config({**read_config_file(path), "models": ["m1", "m2"]})
    assert (config.raters_per_item, config.images_per_side) == (3, 1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"colour": "red"}, "colour: unknown key"),
        ({"raters_per_item": 0}, "raters_per_item: .*greater than or equal to 1"),
        ({"models": ["one"]}, "needs two models, got one"),
        ({"models": ["one", "ONE"]}, "same name"),
        ({"layout": "mixed"}, "needs items_per_rater"),
        ({"reference": "camera"}, "no place for a reference"),
        ({"title": "Is Ultra-Net 2 better?", "models": ["Ultra-Net 2", "x"]}, "is not blind"),
        ({"images_per_side": "8"}, "images_per_side"),
        ({"models": ["../up", "x"]}, "models.0"),
    ],
)
def test_settings_that_make_no_study_are_refused(change: dict[str, object], message: str) -> None:
    settings = {**load_preset("imagen-drawbench"), "models": ["m1", "m2"], **change}
    with pytest.raises(StudyError, match=message):
        make_config(settings)


def test_a_pair_question_must_offer_both_sides() -> None:
    question = {
        "id": "q",
        "text": "Which?",
        "kind": "pair",
        "answers": [{"value": "left", "label": "L"}, {"value": "right", "label": "R"}],
    }
    with pytest.raises(StudyError, match="must be first, tie, second"):
        make_config(
            {**load_preset("imagen-drawbench"), "models": ["m1", "m2"], "questions": [question]}
        )


def test_unknown_presets_and_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'imagen-drawbench'"):
        load_preset("imagen-drawbnch")
    with pytest.raises(MissingDataError, match="no such file"):
        read_config_file(tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("models = [", "utf-8")
    with pytest.raises(StudyError, match="not a TOML file"):
        read_config_file(tmp_path / "bad.toml")


def test_a_study_is_the_same_wherever_it_is_read(new_study: Callable[..., Study]) -> None:
    study = new_study()
    again = load_study(study.path)
    assert list(again.items) == list(study.items)
    assert again.document == study.document


def test_a_prompt_that_names_a_model_is_noted(new_study: Callable[..., Study]) -> None:
    study = new_study(rows=[("a north-model in the snow", "x"), ("a cup", "x")])
    assert "north-model" in study.document.suite.notes[0]


# Files that somebody else wrote


def _edit(study: Study, change: Callable[[dict[str, object]], None]) -> None:
    file = study.path / "study.json"
    raw = json.loads(file.read_text("utf-8"))
    change(raw)
    file.write_text(json.dumps(raw), "utf-8")


def test_a_newer_study_is_refused(new_study: Callable[..., Study]) -> None:
    study = new_study()
    _edit(study, lambda raw: raw.update(schema_version=2))
    with pytest.raises(StudyError, match="schema_version 2, but this evalkit reads up to 1"):
        load_study(study.path)


@pytest.mark.parametrize("key", ["../../secret", "/etc/passwd", "x" * 32, "0" * 31, "0" * 33])
def test_image_names_cannot_leave_the_folder(new_study: Callable[..., Study], key: str) -> None:
    study = new_study()
    file = study.path / "images.jsonl"
    first, *rest = file.read_text("utf-8").splitlines()
    entry = {**json.loads(first), "key": key}
    file.write_text("\n".join([json.dumps(entry), *rest]), "utf-8")
    with pytest.raises(StudyError, match="line 1: key"):
        load_study(study.path)


def test_a_link_among_the_images_is_not_followed(
    new_study: Callable[..., Study], tmp_path: Path
) -> None:
    study = new_study()
    secret = tmp_path / "secret"
    secret.write_text("secret")
    victim = study.path / "images" / f"{study.images[0].key}.png"
    victim.unlink()
    victim.symlink_to(secret)
    assert study.image_path(study.images[0].key) is None
    assert load_study(study.path).missing_images() == (study.images[0].key,)


def test_only_known_names_are_served(new_study: Callable[..., Study]) -> None:
    study = new_study()
    (study.path / "images" / ("f" * 32 + ".png")).write_bytes(b"not of the study")
    assert study.image_path("f" * 32) is None
    assert study.image_path("../study.json") is None
    assert study.image_path(study.images[0].key) is not None


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "not a study"), ("[]", "not a study"), ("{}", "uid"), ('{"schema_version": 1}', "uid")],
)
def test_damaged_studies_are_refused(
    new_study: Callable[..., Study], text: str, message: str
) -> None:
    study = new_study()
    (study.path / "study.json").write_text(text, "utf-8")
    with pytest.raises(StudyError, match=message):
        load_study(study.path)


def test_too_few_images_are_named(new_study: Callable[..., Study]) -> None:
    study = new_study()
    file = study.path / "images.jsonl"
    file.write_text("\n".join(file.read_text("utf-8").splitlines()[1:]), "utf-8")
    with pytest.raises(StudyError, match="has 1 images for tiny-000, expected 2"):
        load_study(study.path)


def test_a_folder_without_a_study_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match="evalkit drawbench new"):
        load_study(tmp_path)
