"""`evalkit drawbench results, plan, simulate, convert`, without a study."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from drawbench.cli import app
from drawbench.errors import StudyError, VotesError
from drawbench.votes import read_votes, write_votes
from evalkit.core.results import read_records
from tests.support.vote_tables import grid_votes

RUNNER = CliRunner()


def _run(*arguments: object, fails: type[Exception] | None = None) -> Result:
    done = RUNNER.invoke(app, [str(argument) for argument in arguments])
    if fails is None:
        assert done.exit_code == 0, (done.output, done.exception)
    else:
        assert isinstance(done.exception, fails)
    return done


@pytest.fixture
def votes_file(tmp_path: Path) -> Path:
    file = tmp_path / "votes.csv"
    write_votes(file, grid_votes(["aatab", "abtta", "aaaab", "tabaa"], category="Colors"))
    return file


def test_results_of_a_file(votes_file: Path, tmp_path: Path) -> None:
    record_file, folder = tmp_path / "r.json", tmp_path / "report"
    done = _run("results", "--votes", votes_file, "--json", record_file, "--out", folder)
    assert "A = imagen, B = glide: fidelity" in done.output
    assert "70.0 %" in done.output
    assert "20 votes, 4 raters, 5 prompts" in done.output
    assert "SIMULATED" not in done.output
    assert read_records(record_file)[0].value == pytest.approx(0.7)
    assert sorted(file.name for file in folder.iterdir()) == [
        "prompts.csv",
        "raters.csv",
        "report.html",
        "results.csv",
        "results.json",
    ]
    assert "votes.csv" in (folder / "report.html").read_text("utf-8")


def test_results_options(votes_file: Path, tmp_path: Path) -> None:
    _run("results", "--votes", votes_file, "--ties", "drop", "--level", 0.9, "--resamples", 0,
         "--json", tmp_path / "r.json")  # fmt: skip
    record = read_records(tmp_path / "r.json")[0]
    assert record.value == pytest.approx(0.75)
    assert record.interval is not None
    assert record.interval.level == 0.9
    assert record.details["bootstrap"] is None


def test_results_with_scores_and_card(votes_file: Path, tmp_path: Path) -> None:
    scores, card = tmp_path / "scores.csv", tmp_path / "card.toml"
    rows = [
        f"p{i},{model},{value}" for i in range(5) for model, value in (("imagen", i), ("glide", 2))
    ]
    scores.write_text("prompt_id,model,score\n" + "\n".join(rows), encoding="utf-8")
    card.write_text('title = "Our study"\n', encoding="utf-8")
    _run(
        "results",
        "--votes",
        votes_file,
        "--scores",
        scores,
        "--card",
        card,
        "--out",
        tmp_path / "o",
    )
    page = (tmp_path / "o" / "report.html").read_text("utf-8")
    assert "<title>Our study</title>" in page
    assert "Automatic scores vs human preference" in page


def test_bad_votes_leave_nothing_behind(tmp_path: Path) -> None:
    file, folder = tmp_path / "votes.csv", tmp_path / "report"
    file.write_text("rater_id,answer\nr,a\n", encoding="utf-8")
    done = _run("results", "--votes", file, "--out", folder, fails=VotesError)
    assert "'prompt_id' is missing" in str(done.exception)
    assert "\n" not in str(done.exception)
    assert not folder.exists()


def test_study_or_votes(votes_file: Path) -> None:
    for arguments in ([], ["somewhere", "--votes", votes_file]):
        done = _run("results", *arguments, fails=StudyError)
        assert "either STUDY or --votes FILE" in str(done.exception)


def test_simulate_then_results(tmp_path: Path) -> None:
    file = tmp_path / "simulated.csv"
    done = _run("simulate", "--out", file, "--model", "x=0.5", "--model", "y=0", "--raters", 2)
    assert "800 simulated votes" in done.output
    assert read_votes(file)["simulated"].all()
    told = _run("results", "--votes", file, "--resamples", 0)
    assert "SIMULATED: 800 of 800 votes come from simulated raters" in told.output
    for bad in ("x", "=1", "x=y"):
        _run("simulate", "--out", file, "--model", bad, fails=StudyError)


def test_convert_then_results(tmp_path: Path) -> None:
    battles = tmp_path / "battles.json"
    rows = [
        {"judge": f"j{j}", "question_id": f"q{q}", "model_a": "x", "model_b": "y", "winner": winner}
        for j in range(3)
        for q, winner in enumerate(("model_a", "model_b", "meh"))
    ]
    battles.write_text(json.dumps(rows), encoding="utf-8")
    out = tmp_path / "votes.csv"
    _run("convert", battles, "--from", "arena", "--out", out, fails=VotesError)
    assert not out.exists()
    _run("convert", battles, "--from", "arena", "--answer", "meh=tie", "--out", out)
    assert sorted(read_votes(out)["answer"]) == ["a"] * 3 + ["b"] * 3 + ["tie"] * 3
    direct = _run("results", "--votes", battles, "--from", "arena", "--answer", "meh=tie")
    assert "9 votes" in direct.output


def test_plan(tmp_path: Path) -> None:
    done = _run("plan", "--difference", 0.05, "--looks", 2, "--json", tmp_path / "p.json")
    assert "5,000 votes on a question: 275 raters, 200 prompts" in done.output
    assumed = (
        "assumed: correlation 0.05 of two votes of a rater, 0.1 of two votes on a prompt; 20 %"
    )
    assert assumed in done.output
    assert "raters per category" in done.output
    assert "boundary pocock" in done.output
    half_width, found, *looks = read_records(tmp_path / "p.json")
    assert half_width.value == pytest.approx(0.0264, abs=5e-4)
    assert found.value == pytest.approx(0.0376, abs=2e-3)
    boundaries = [record.fingerprint["boundary"] for record in looks]
    assert boundaries == ["none", "pocock", "obrien-fleming"]
    assert looks[0].value > looks[1].value == pytest.approx(0.05, abs=1e-4)
    hopeless = _run("plan", "--categories", "10", "--prompt-correlation", 0.5, "--difference", 0.01)
    assert "no number of raters" in hopeless.output
    _run("plan", "--categories", "10,x", fails=StudyError)


def test_plan_from_a_pilot(votes_file: Path) -> None:
    done = _run("plan", "--pilot", votes_file)
    assert "pilot: share of ties 0.200" in done.output
    assert "20 % ties" in done.output
