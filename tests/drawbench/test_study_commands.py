"""The commands around a study, from images to backup, in this process."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from drawbench.cli import app
from drawbench.errors import command_line
from drawbench.rating.serving import page_command
from drawbench.report.study import deviations_of
from drawbench.store import open_store
from drawbench.study import Study, load_study
from drawbench.suites.suite import Suite, load_suite, write_suite
from drawbench.votes import read_votes
from evalkit.commands.study_scores import score_study
from evalkit.core.errors import EvalkitError, MissingExtraError

NewStudy = Callable[..., Study]


@pytest.fixture
def run() -> Callable[..., str]:
    """Run a command and return what it printed; a fault of the user is raised."""

    def invoke(*arguments: object) -> str:
        result = CliRunner().invoke(app, [str(argument) for argument in arguments])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == 0, result.output
        return result.output

    return invoke


@pytest.fixture
def made(
    tmp_path: Path, suite: Suite, make_images: Callable[..., Path], run: Callable[..., str]
) -> Path:
    """A study made by the command."""
    write_suite(tmp_path / "tiny.csv", suite)
    folders = ",".join(f"{name}={make_images(name, suite)}" for name in ("north", "south"))
    output = run(
        *("new", tmp_path / "study", "--suite", f"tiny={tmp_path / 'tiny.csv'}"),
        *("--models", folders, "--images-per-side", 2, "--raters", 2, "--practice", 0),
    )
    assert "raters needed: 4" in output
    assert "samples of north: selection unknown" in output
    return tmp_path / "study"


def test_a_study_in_other_words(
    tmp_path: Path, suite: Suite, make_images: Callable[..., Path], run: Callable[..., str]
) -> None:
    words = tmp_path / "de.toml"
    run("texts", "--out", words)
    text = words.read_text("utf-8").replace('language = "en"', 'language = "de"')
    question = '"Which set of images is of higher quality?"'
    words.write_text(text.replace(question, '"Welche Bilder sind besser?"'), "utf-8")
    write_suite(tmp_path / "tiny.csv", suite)
    folders = ",".join(f"{name}={make_images(name, suite)}" for name in ("north", "south"))
    run(
        *("new", tmp_path / "study", "--suite", f"tiny={tmp_path / 'tiny.csv'}", "--texts", words),
        *("--models", folders, "--images-per-side", 2, "--raters", 2),
    )
    study = load_study(tmp_path / "study")
    assert study.texts.language == "de"
    assert study.config.questions[0].text == "Welche Bilder sind besser?"
    assert "raters read other texts (language: de)" in deviations_of(study.config)
    assert "own questions" in deviations_of(study.config)


def test_a_study_is_made_rehearsed_looked_at_and_exported(
    made: Path, run: Callable[..., str], tmp_path: Path
) -> None:
    assert "marked as simulated" in run("rehearse", made, "--raters", 4)
    assert "10" in run("status", made)
    run("export", made, "--out", tmp_path / "votes.csv")
    votes = read_votes(tmp_path / "votes.csv")
    assert len(votes) == 5 * 2 * 2
    assert votes["simulated"].all()
    for form in ("ratings", "raters", "quotas", "reports"):
        run("export", made, "--as", form, "--out", tmp_path / f"{form}.csv")
        assert (tmp_path / f"{form}.csv").read_text().count(",") > 3
    run("backup", made, tmp_path / "b.zip")
    run("restore", tmp_path / "b.zip", tmp_path / "again")
    run("export", tmp_path / "again", "--out", tmp_path / "again.csv")
    assert (tmp_path / "again.csv").read_bytes() == (tmp_path / "votes.csv").read_bytes()


def test_withdrawing_by_name(made: Path, run: Callable[..., str], tmp_path: Path) -> None:
    run("rehearse", made, "--raters", 2)
    run("export", made, "--as", "raters", "--out", tmp_path / "raters.csv")
    name = (tmp_path / "raters.csv").read_text().splitlines()[1].split(",")[0]
    assert "Deleted. Earlier exports" in run("withdraw", made, name)
    with pytest.raises(EvalkitError, match="no rater"):
        run("withdraw", made, name)


def test_invitations_are_links_that_open_a_place(
    made: Path, run: Callable[..., str], tmp_path: Path
) -> None:
    out = tmp_path / "links.csv"
    run("invite", made, "--count", 2, "--address", "https://rate.example", "--out", out)
    links = [line.split(",")[1] for line in out.read_text().splitlines()[1:]]
    store = open_store(load_study(made))
    assert all(store.find_rater(link.partition("rater=")[2]) for link in links)
    store.database.close()
    with pytest.raises(EvalkitError, match="lost links can't be recovered"):
        run("invite", made, "--out", out)


def test_a_lost_link_is_made_anew(made: Path, run: Callable[..., str]) -> None:
    store = open_store(load_study(made))
    old = store.join(external_id="p1")
    said = run("relink", made, "p1", "--address", "https://rate.example/")
    token = said.partition("https://rate.example/?rater=")[2].split()[0]
    assert store.find_rater(old.token) is None
    assert store.find_rater(token) == old.rater
    with pytest.raises(EvalkitError, match=r"no rater 'p2'\. List its raters with: evalkit drawb"):
        run("relink", made, "p2")
    store.database.close()


def test_places_are_released(made: Path, run: Callable[..., str]) -> None:
    store = open_store(load_study(made))
    store.join()
    store.invite()
    assert "0 pages are free again" in run("release", made)
    said = run("release", made, "--idle", 0, "--invitations")
    assert "1 raters were away for 0 minutes or more" in said
    assert "no longer kept for 1 unused invitations" in said
    store.database.close()


def test_one_deleted_image_blocks_nothing_that_needs_no_pixels(
    made: Path, run: Callable[..., str], tmp_path: Path
) -> None:
    run("rehearse", made, "--raters", 3)
    study = load_study(made)
    gone = study.images[0].key
    (made / "images" / f"{gone}.png").unlink()
    (made / "images" / f"{study.images[1].key}.png").write_bytes(b"damaged")
    assert "complete ratings" in run("status", made)
    assert "rows" in run("export", made, "--out", tmp_path / "votes.csv")
    assert "report:" in run("results", made, "--resamples", 0)
    said = run("backup", made, tmp_path / "b.zip")
    assert f"1 of {len(study.images)} images are missing" in said
    assert gone in said
    run("restore", tmp_path / "b.zip", tmp_path / "again")
    assert load_study(tmp_path / "again").missing_images() == (gone,)
    rater = read_votes(tmp_path / "votes.csv")["rater_id"][0]
    assert "Deleted" in run("withdraw", made, rater)
    with pytest.raises(EvalkitError, match="images are missing from"):
        score_study(study, None, batch_size=1, progress=None)  # type: ignore[arg-type]


def test_hints_name_the_database_without_its_password(
    tmp_path: Path, suite: Suite, make_images: Callable[..., Path], run: Callable[..., str]
) -> None:
    write_suite(tmp_path / "tiny.csv", suite)
    folders = ",".join(f"{name}={make_images(name, suite)}" for name in ("north", "south"))
    url = f"sqlite:///{tmp_path}/votes.sqlite"
    said = run(
        *("new", tmp_path / "study", "--suite", f"tiny={tmp_path / 'tiny.csv'}"),
        *("--models", folders, "--images-per-side", 2, "--database", url),
    )
    assert f"next: evalkit drawbench rate {tmp_path / 'study'} --database {url}" in said
    with pytest.raises(EvalkitError, match=f"--as raters --out raters.csv --database {url}"):
        run("withdraw", tmp_path / "study", "nobody", "--database", url)
    hint = command_line("rate", "s", database="postgresql+psycopg://me:p%40ss@db:1/v")
    assert hint == "rate s --database 'postgresql+psycopg://me:***@db:1/v'"


def test_results_read_the_database_of_the_environment(
    made: Path, run: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"sqlite:///{tmp_path}/elsewhere.sqlite"
    run("upgrade", made, "--database", url)
    run("rehearse", made, "--raters", 2, "--database", url)
    monkeypatch.setenv("EVALKIT_DATABASE", url)
    assert "SIMULATED" in run("results", made, "--resamples", 0)


def test_votes_and_annotations_come_in(made: Path, run: Callable[..., str], tmp_path: Path) -> None:
    path = tmp_path / "v.csv"
    path.write_text(
        "rater_id,prompt_id,category,model_a,model_b,question,answer\n"
        "x,tiny-000,Colors,north,south,quality,a\n"
    )
    assert "1 votes on 1 items by 1 raters imported" in run("import", made, path)
    run("export", made, "--as", "label-studio", "--out", tmp_path / "tasks.json")
    assert len(json.loads((tmp_path / "tasks.json").read_text())) == 5 * 2 - 1
    assert (tmp_path / "tasks.xml").is_file()


def test_suites_are_listed_and_shown(run: Callable[..., str], tmp_path: Path) -> None:
    lines = run("suites").splitlines()
    assert [line.split()[0] for line in lines] == ["drawbench", "parti", "shapes-bench"]
    assert "1,632 prompts in 12 categories: PartiPrompts" in lines[1]
    assert lines[1].endswith("source: google-research/parti; licence: Apache-2.0")
    shown = run("suite", "shapes-bench", "--out", tmp_path / "s.csv")
    assert "60 prompts" in shown
    assert "licence: Apache-2.0" in shown
    assert (tmp_path / "s.csv").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--models", "a=x,a=y"], "has the name 'a' twice"),
        (["--models", "a=x,b=y"], "no such folder"),
        (["--models", "a=x,b=y", "--preset", "imagn"], "did you mean"),
        (["--models", "a=x,b=y", "--category", "Colours"], "has no category 'Colours'"),
        (["--models", "a=x", "--raters", "2"], "needs two models"),
        (["--models", "a=x,b=y", "--layout", "random"], "layout"),
    ],
)
def test_what_makes_no_study_is_refused_in_one_line(
    run: Callable[..., str], tmp_path: Path, arguments: list[str], message: str
) -> None:
    with pytest.raises(EvalkitError, match=message) as caught:
        run("new", tmp_path / "study", "--suite", "shapes-bench", *arguments)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "study").exists()


def test_a_study_of_one_category_says_so(
    run: Callable[..., str], tmp_path: Path, make_images: Callable[..., Path]
) -> None:
    folders = ",".join(
        f"{name}={make_images(name, load_suite('shapes-bench'), count=1)}" for name in "ab"
    )
    output = run(
        *("new", tmp_path / "study", "--suite", "shapes-bench", "--models", folders),
        *("--category", "Counting", "--images-per-side", 1, "--raters", 1),
    )
    assert "12 of the 60 prompts" in output
    ids = [prompt.id for prompt in load_study(tmp_path / "study").document.prompts]
    assert ids[0] == "shapes-bench-012"


def test_the_page_is_served_from_its_script() -> None:
    command = page_command(results=False, port=8600, address="127.0.0.1")
    assert Path(command[4]).name == "rate.py"
    assert Path(command[4]).is_file()
    assert Path(page_command(results=True, port=1, address="x")[4]).name == "results.py"


def test_the_results_page_wants_a_password(
    made: Path, run: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("EVALKIT_RESULTS_PASSWORD", raising=False)
    with pytest.raises(EvalkitError, match=r"needs a password\. Set EVALKIT_RESULTS_PASSWORD"):
        run("rate", made, "--results")


def test_a_database_that_does_not_answer_leaves_no_half_made_study(
    run: Callable[..., str], tmp_path: Path, suite: Suite, make_images: Callable[..., Path]
) -> None:
    write_suite(tmp_path / "tiny.csv", suite)
    folders = ",".join(f"{name}={make_images(name, suite)}" for name in ("north", "south"))
    arguments = [
        *("new", tmp_path / "study", "--suite", f"tiny={tmp_path / 'tiny.csv'}"),
        *("--models", folders, "--images-per-side", 2),
    ]
    for url in ("postgresql://x@127.0.0.1:1/none", f"sqlite:///{tmp_path}/no/such/folder.sqlite"):
        with pytest.raises(EvalkitError, match="can't be opened"):
            run(*arguments, "--database", url)
        assert not (tmp_path / "study").exists()


@pytest.mark.parametrize("command", ["status", "results", "rate", "backup"])
def test_without_the_store_s_packages_the_extra_is_named(
    made: Path,
    run: Callable[..., str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: str,
) -> None:
    monkeypatch.setitem(sys.modules, "sqlalchemy", None)
    more = [tmp_path / "b.zip"] if command == "backup" else []
    with pytest.raises(MissingExtraError, match=r"pip install 'evalkit\[app\]'"):
        run(command, made, *more)
