"""The recipes of docs/extending.md: what the page says is executed, block by block.

Each recipe's files are written as a package of somebody else, its entry points are those of the
`pyproject.toml` on the page, and its commands are the ones that the page prints.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from packages import install_package

from evalkit.core.results import ResultRecord, read_records
from tests.evalkit.commands.conftest import coco_folder, inception_weights

__all__ = ["coco_folder", "inception_weights"]

PAGE = Path(__file__).parents[2] / "docs" / "extending.md"
RECIPES = ("A metric", "A sampler", "A generator", "A data set", "A protocol", "Rater texts")
MOST_STEPS = 3


@dataclass(frozen=True)
class Recipe:
    """One section of the page."""

    text: str

    @property
    def files(self) -> dict[str, str]:
        """Source by file name: in the first line of a block, or, of a table, before it."""
        blocks = re.findall(r"```(?:python|toml)\n# (\S+)\n(.*?)```", self.text, flags=re.DOTALL)
        blocks += re.findall(r"`(\S+)`:\n\n```csv\n(.*?)```", self.text, flags=re.DOTALL)
        assert len(dict(blocks)) == len(blocks)
        return dict(blocks)

    @property
    def commands(self) -> list[list[str]]:
        """The commands of the section, as words without `evalkit`."""
        blocks = re.findall(r"```sh\n(.*?)```", self.text, flags=re.DOTALL)
        lines = "".join(blocks).replace("\\\n", " ").splitlines()
        commands = [shlex.split(line, comments=True) for line in lines]
        assert all(words[0] == "evalkit" for words in commands)
        return [words[1:] for words in commands]

    @property
    def steps(self) -> list[str]:
        """Numbers of the steps."""
        return re.findall(r"^\*\*(\d)\. ", self.text, flags=re.MULTILINE)


def sections() -> dict[str, Recipe]:
    text = PAGE.read_text("utf-8")
    parts = re.split(r"^## (.*)\n", text, flags=re.MULTILINE)[1:]
    return {title: Recipe(body) for title, body in zip(parts[::2], parts[1::2], strict=True)}


class FailedCommandError(Exception):
    """A command of the page that did not exit with 0."""


@dataclass(frozen=True)
class Outside:
    """A folder to work in, with somebody's package on the path of every command."""

    folder: Path
    package: Path

    def run(self, words: list[str], **environment: str) -> str:
        """What a command prints. It runs in a process of its own, as it does for a user."""
        paths = [str(self.package), str(PAGE.parents[1])]
        done = subprocess.run(
            [sys.executable, "-m", "evalkit.cli", *words],
            capture_output=True, text=True, check=False, cwd=self.folder,
            env={**os.environ, "COLUMNS": "250", "PYTHONPATH": os.pathsep.join(paths),
                 **environment},
        )  # fmt: skip
        if done.returncode:
            raise FailedCommandError(done.stderr)
        return done.stdout

    def listed(self, words: list[str], name: str) -> str:
        """The line that a command prints on a name."""
        (line,) = (line for line in self.run(words).splitlines() if name in line)
        return line

    def records(self, run: str) -> dict[str, ResultRecord]:
        """Records of a run by metric."""
        return {r.metric: r for r in read_records(self.folder / "runs" / run / "results.json")}

    def report(self, run: str) -> str:
        """The page of a run."""
        return (self.folder / "runs" / run / "report.html").read_text("utf-8")


@pytest.fixture
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Outside:
    package = tmp_path / "package"
    package.mkdir()
    monkeypatch.chdir(tmp_path)
    return Outside(tmp_path, package)


def write_files(recipe: Recipe, folder: Path) -> None:
    """Put the files of a recipe into the folder that its commands run in."""
    for name, text in recipe.files.items():
        (folder / name).write_text(text, "utf-8")


@pytest.fixture
def installed(outside: Outside, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Recipe]:
    """Put the modules and entry points of a recipe on the path, by its title."""

    def install(title: str) -> Recipe:
        recipe = sections()[title]
        files = recipe.files
        project = tomllib.loads(files.pop("pyproject.toml"))["project"]
        install_package(
            outside.package,
            monkeypatch,
            modules={name.removesuffix(".py"): source for name, source in files.items()},
            entry_points=project["entry-points"],
        )
        return recipe

    return install


Installed = Callable[[str], Recipe]


def test_the_page_has_the_recipes_in_few_steps() -> None:
    found = sections()
    assert tuple(found) == RECIPES
    for recipe in found.values():
        assert recipe.steps == [str(k + 1) for k in range(len(recipe.steps))]
        assert 1 <= len(recipe.steps) <= MOST_STEPS


def test_without_the_package_there_is_nothing_of_it(outside: Outside) -> None:
    """What the others find is the package's doing."""
    assert "lab/" not in outside.run(["list", "metrics"]) + outside.run(["list", "models"])


def test_a_metric(installed: Installed, outside: Outside) -> None:
    listing, fid = installed("A metric").commands
    assert "mean colourfulness of the images" in outside.listed(listing, "lab/colourfulness")
    assert "Colourfulness" in outside.run(fid)
    (record,) = outside.records("colour").values()
    assert record.metric == "lab/colourfulness"
    assert record.interval is not None
    assert record.interval.low < record.value < record.interval.high  # type: ignore[operator]
    page = outside.report("colour")
    assert "Colourfulness" in page
    assert "Hasler &amp; Süsstrunk 2003" in page


def test_a_sampler(installed: Installed, outside: Outside) -> None:
    (fid,) = installed("A sampler").commands
    outside.run(fid)
    config = json.loads((outside.folder / "runs" / "euler" / "run.json").read_text("utf-8"))
    assert "lab/euler" in json.dumps(config)
    assert "lab/euler" in json.dumps(dict(outside.records("euler")["fd"].fingerprint))
    assert "lab/euler" in outside.report("euler")
    with pytest.raises(FailedCommandError, match=r"no sampler 'none' .* lab/euler"):
        outside.run([*fid[:3], "--data", "shapes", "--sampler", "none"])


def test_a_generator(installed: Installed, outside: Outside) -> None:
    listing, fid = installed("A generator").commands
    assert "a circle in the prompted colour" in outside.listed(listing, "lab/circles")
    assert "Circles" in outside.run(fid)
    records = outside.records("circles")
    found, shuffled = records["composition-pairs"], records["composition-pairs-shuffled"]
    assert found.value > shuffled.value  # type: ignore[operator]
    assert found.fingerprint["model"] == "lab/circles"
    assert "Circles" in outside.report("circles")


def test_a_data_set(installed: Installed, outside: Outside) -> None:
    listing, fid = installed("A data set").commands
    assert "30 flags of two colours with their captions" in outside.listed(listing, "lab/flags")
    outside.run(fid)
    record = outside.records("flags")["fd"]
    assert (record.n, record.fingerprint["num_reference"]) == (8, 30)
    assert record.fingerprint["dataset"] == "lab/flags"
    assert "lab/flags" in outside.report("flags")


def test_a_protocol(outside: Outside, coco_folder: Path, inception_weights: Path) -> None:
    recipe = sections()["A protocol"]
    write_files(recipe, outside.folder)
    (fid,) = recipe.commands
    few = ["--n", "4", "--steps", "base=2,upsampler=1"]
    weights = ["--inception-weights", str(inception_weights)]
    outside.run([*fid, *few, *weights], EVALKIT_COCO=str(coco_folder))
    record = outside.records("coco-5k")["fid"]
    assert record.fingerprint["protocol"] == "coco-5k"
    assert record.n == 4
    assert record.fingerprint["size_px"] == 256
    assert "coco-5k" in outside.report("coco-5k")


QUESTION = "Which image shows the right number of objects: {caption}?"
OTHER_QUESTIONS = "### Other questions"


def edit(path: Path, changes: str) -> None:
    """Give a text file the values of a block, as a user edits it: each line below its table."""
    source = path.read_text("utf-8")
    table, *lines = changes.strip().splitlines()
    for line in lines:
        key = line.partition(" =")[0]
        pattern = rf"({re.escape(table)}\n(?:[^\[].*\n)*?){key} = .*\n"
        source, count = re.subn(pattern, lambda found, new=line: f"{found[1]}{new}\n", source)
        assert count == 1
    path.write_text(source, "utf-8")


def test_rater_texts(outside: Outside) -> None:
    recipe = Recipe(sections()["Rater texts"].text.partition(OTHER_QUESTIONS)[0])
    copy, generate, new, rehearse, results = recipe.commands
    if "\n  texts " not in outside.run(["drawbench", "--help"]):
        pytest.skip("`evalkit drawbench texts` and `new --texts` are not there yet")
    files = recipe.files
    (outside.folder / "prompts.csv").write_text(files["prompts.csv"], "utf-8")
    outside.run(copy)
    edit(outside.folder / "texts.toml", files["texts.toml"])
    for words in (generate, new, rehearse):
        outside.run(words)
    study = json.loads((outside.folder / "study" / "study.json").read_text("utf-8"))
    assert QUESTION in [question["text"] for question in study["config"]["questions"]]
    assert "caption" in outside.run(results)
    page = (outside.folder / "study" / "report" / "report.html").read_text("utf-8")
    assert QUESTION in page


def test_other_questions(outside: Outside) -> None:
    recipe = sections()["Rater texts"]
    write_files(recipe, outside.folder)
    (generate,) = (words for words in recipe.commands if "generate" in words)
    (new,) = Recipe(recipe.text.partition(OTHER_QUESTIONS)[2]).commands
    outside.run(generate)
    outside.run(new)
    study = json.loads((outside.folder / "counting" / "study.json").read_text("utf-8"))
    (question,) = study["config"]["questions"]
    assert question["text"] == QUESTION
    outside.run(["drawbench", "rehearse", "counting", "--raters", "2"])
    outside.run(["drawbench", "results", "counting"])
    page = (outside.folder / "counting" / "report" / "report.html").read_text("utf-8")
    assert QUESTION in page
