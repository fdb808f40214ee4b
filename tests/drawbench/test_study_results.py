"""`evalkit drawbench results STUDY`: from a store to a report."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from drawbench.cli import app
from drawbench.errors import StudyError
from drawbench.report.study import card_of, context_of, images_of
from drawbench.stats.analysis import WIN_RATE
from drawbench.store import open_store
from drawbench.study import Study
from evalkit.core.errors import ConfigError, MissingDataError
from evalkit.core.results import read_records

RUNNER = CliRunner()
ROWS = [("a red car", "Colors"), ("a blue dog", "Colors"), ("two cats", "Counting")]


def _filled(study: Study) -> Path:
    open_store(study, create=True)
    done = RUNNER.invoke(app, ["rehearse", str(study.path)])
    assert done.exit_code == 0, (done.output, done.exception)
    return study.path


def test_report_of_a_rehearsed_study(new_study: Callable[..., Study], tmp_path: Path) -> None:
    study = new_study(rows=[*ROWS, ("three cups", "Counting")], raters_per_item=4)
    path, folder = _filled(study), tmp_path / "report"
    done = RUNNER.invoke(app, ["results", str(path), "--out", str(folder), "--resamples", "0"])
    assert done.exit_code == 0, (done.output, done.exception)
    assert "SIMULATED: 32 of 32 votes" in done.output
    found = [r for r in read_records(folder / "results.json") if r.metric == WIN_RATE]
    assert {record.fingerprint["question"] for record in found} == {"quality", "alignment"}
    page = (folder / "report.html").read_text("utf-8")
    assert "Simulated: 32 of 32 votes" in page
    assert "Which set of images is of higher quality?" in page
    assert "I am indifferent" in page
    assert "a red car" in page
    pictures = len(re.findall("data:image/jpeg", page))
    assert pictures > 0
    assert pictures % 4 == 0  # two images a side


def test_ratings_of_single_sets_are_reported(
    new_study: Callable[..., Study], tmp_path: Path
) -> None:
    study = new_study(
        rows=ROWS,
        preset="imagen-coco",
        models=["north-model"],
        reference="real photos",
        raters_per_item=3,
        items_per_rater=9,
        num_checks=0,
        images_per_side=1,
    )
    store = open_store(study, create=True)
    answers = {"photorealism": ("first", "second"), "alignment": ("yes", "somewhat", "no")}
    for number in range(3):
        rater = store.join().rater
        for place in store.hand(rater.id):
            for question in study.questions(place.item):
                choices = answers[question.id]
                choice = choices[(number + place.cell_id) % len(choices)]
                store.submit(rater.id, place.cell_id, question.id, choice, response_s=9.0)
    context = context_of(store)
    assert {item.model for item in context.ratings} == {"north-model", "real photos"}
    assert all(0 <= item.value <= 100 for item in context.ratings)
    done = RUNNER.invoke(
        app, ["results", str(study.path), "--out", str(tmp_path / "o"), "--resamples", "0"]
    )
    assert done.exit_code == 0, (done.output, done.exception)
    assert "Ratings of single sets" in (tmp_path / "o" / "report.html").read_text("utf-8")
    metrics = {record.metric for record in read_records(tmp_path / "o" / "results.json")}
    assert {"drawbench-mean-rating", WIN_RATE} <= metrics


def test_card_states_what_the_study_knows(new_study: Callable[..., Study]) -> None:
    study = new_study(rows=ROWS)
    rows = dict(card_of(open_store(study, create=True)).rows())
    assert rows["Images on each side"] == "2"
    assert rows["Prompts"] == "tiny, 3 prompts"
    deviations = rows["Deviations from the protocol"]
    assert "images_per_side is 2, not 8; raters_per_item is 3, not 25" in deviations
    assert "preset imagen-drawbench (Saharia et al. 2022" in deviations
    assert "north-model" in rows["Selection of images"]
    assert rows["Payment"] == "not stated"


def test_images_are_the_blind_copies(new_study: Callable[..., Study]) -> None:
    study = new_study(rows=ROWS)
    prompt = study.document.prompts[0].id
    paths = images_of(study, prompt, "north-model")
    assert len(paths) == 2
    assert all(path.parent == study.path / "images" for path in paths)
    assert images_of(study, "no-such-prompt", "north-model") == ()


def test_the_report_lies_in_the_study_unless_told_and_says_where_it_can_not(
    new_study: Callable[..., Study], tmp_path: Path
) -> None:
    path = _filled(new_study(rows=ROWS))
    done = RUNNER.invoke(app, ["results", str(path), "--resamples", "0"])
    assert done.exit_code == 0, (done.output, done.exception)
    assert (path / "report" / "report.html").is_file()
    taken = tmp_path / "taken"
    taken.write_text("a file", "utf-8")
    refused = RUNNER.invoke(app, ["results", str(path), "--resamples", "0", "--out", str(taken)])
    assert isinstance(refused.exception, StudyError)
    assert "can't be written" in str(refused.exception)


def test_no_study_there(tmp_path: Path) -> None:
    done = RUNNER.invoke(app, ["results", str(tmp_path / "nowhere")])
    assert isinstance(done.exception, MissingDataError)
    assert "nowhere" in str(done.exception)


@pytest.mark.parametrize("option", ["--ties", "--resamples"])
def test_bad_options_are_refused(option: str) -> None:
    done = RUNNER.invoke(app, ["results", "--votes", "x.csv", option, "-7"])
    assert done.exit_code == 2
    assert option in done.output


@pytest.mark.parametrize("level", ["95", "-7", "0", "1", "nan"])
def test_a_bad_level_is_refused_before_the_votes_are_read(level: str) -> None:
    done = RUNNER.invoke(app, ["results", "--votes", "nowhere.csv", "--level", level])
    assert isinstance(done.exception, ConfigError)
    assert f"Level {float(level)} is not between 0 and 1" in str(done.exception)


def test_records_and_page_say_of_which_study_and_images_they_speak(
    new_study: Callable[..., Study], tmp_path: Path
) -> None:
    study = new_study(rows=[*ROWS, ("three cups", "Counting")], raters_per_item=4)
    cards = study.document.models
    reranked = cards[1].model_copy(update={"selection": "re-ranked"})
    document = study.document.model_copy(update={"models": (cards[0], reranked)})
    study = replace(study, document=document)
    (study.path / "study.json").write_text(document.model_dump_json(), "utf-8")
    path, folder = _filled(study), tmp_path / "report"
    done = RUNNER.invoke(app, ["results", str(path), "--out", str(folder), "--resamples", "0"])
    assert done.exit_code == 0, (done.output, done.exception)
    for record in read_records(folder / "results.json"):
        assert record.fingerprint["reranked"] is True
        assert record.fingerprint["suite_sha256"] == document.suite.sha256
        assert record.fingerprint["selection"]["north-model"] == "unknown"
    page = (folder / "report.html").read_text("utf-8")
    for text in (done.output, page):
        assert "The images of south-model are the best of several candidates" in text
        assert "selection unknown: how the images of north-model were chosen" in text


def test_a_study_of_single_sets_has_means_and_no_winner(
    new_study: Callable[..., Study], tmp_path: Path
) -> None:
    question = {
        "id": "fit",
        "text": "Does it fit?",
        "kind": "single",
        "answers": [
            {"value": "yes", "label": "Yes", "score": 100},
            {"value": "no", "label": "No", "score": 0},
        ],
    }
    path = _filled(new_study(rows=ROWS, questions=[question], num_checks=0))
    target = tmp_path / "r.json"
    done = RUNNER.invoke(app, ["results", str(path), "--json", str(target)])
    assert done.exit_code == 0, (done.output, done.exception)
    assert "fit, north-model: mean " in done.output
    found = read_records(target)
    assert [(record.metric, record.subject) for record in found] == [
        ("drawbench-mean-rating", "north-model"),
        ("drawbench-mean-rating", "south-model"),
        ("drawbench-rating-difference", "north-model against south-model"),
    ]
    north, south, difference = found
    assert difference.value == pytest.approx((north.value or 0) - (south.value or 0))
    assert difference.details["num_tests"] == 1
    assert "fit, north-model less south-model: " in done.output
    for record in found:
        assert record.interval is not None
        assert record.interval.high > record.interval.low
    assert all(record.fingerprint["simulated"] for record in found)
    refused = RUNNER.invoke(app, ["results", str(path), "--out", str(tmp_path / "o")])
    assert "compares no pair" in str(refused.exception)
