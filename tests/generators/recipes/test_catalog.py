"""Every TOML file has a row and every row a file; other packages add recipes of their own."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from packages import install_package

import generators.training
from evalkit.core.errors import ConfigError, UnknownNameError
from generators.recipes.catalog import CATALOG, RECIPES, RecipeRow
from generators.recipes.recipe import list_recipes, load_recipe
from generators.training.networks import NETWORKS

FOLDER = Path(generators.training.__file__).parent / "recipes"


def test_every_file_has_a_row_and_every_row_a_file() -> None:
    assert {row.path() for row in RECIPES.values()} == set(FOLDER.glob("*.toml"))
    assert len({row.file for row in RECIPES.values()}) == len(RECIPES)


@pytest.mark.parametrize("name", RECIPES)
def test_a_row_says_what_its_file_says(name: str) -> None:
    row = RECIPES[name]
    told = tomllib.loads(row.path().read_text("utf-8"))
    assert (told["name"], told["network"]) == (name, row.network)
    assert row.network in NETWORKS
    assert row.summary


@pytest.fixture
def theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = (
        "from generators.recipes.catalog import RecipeRow\n"
        "SMALL = RecipeRow(summary='s', network='ddpm', file='small.toml', package='their_nets')\n"
        "GONE = RecipeRow(summary='s', network='ddpm', file='gone.toml', package='their_nets')\n"
    )
    install_package(
        tmp_path,
        monkeypatch,
        modules={"their_rows": rows},
        entry_points={
            "evalkit.recipes": {"their/small": "their_rows:SMALL", "their/gone": "their_rows:GONE"}
        },
    )
    package = tmp_path / "their_nets"
    package.mkdir()
    (package / "__init__.py").write_text("")
    text = RECIPES["ddpm-tiny"].path().read_text("utf-8")
    (package / "small.toml").write_text(text.replace('"ddpm-tiny"', '"their-small"'))


@pytest.mark.usefixtures("theirs")
def test_a_recipe_of_another_package_is_read_by_its_name() -> None:
    assert "their/small" in list_recipes()
    assert load_recipe("their/small", steps=3).optimizer.steps == 3
    assert load_recipe("their/small").name == "their-small"


@pytest.mark.usefixtures("theirs")
def test_a_file_that_a_package_does_not_ship_is_named() -> None:
    with pytest.raises(ConfigError, match=r"their_nets ships no recipe file gone\.toml"):
        CATALOG["their/gone"].path()


def test_unknown_recipes_are_answered_with_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'ddpm-tiny'"):
        load_recipe("ddpm-tyni")
    with pytest.raises(UnknownNameError, match="Unknown recipe"):
        load_recipe("no/such/file.toml")


def test_the_default_package_is_the_one_that_ships_ours() -> None:
    assert RecipeRow(summary="", network="", file="recipes/ddpm-tiny.toml").path().is_file()
