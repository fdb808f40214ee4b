"""Names, catalogs and seeds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packages import install_package

from evalkit.core.errors import ConfigError, MissingExtraError, UnknownNameError
from evalkit.core.registry import Catalog, require, resolve
from evalkit.core.seeding import image_seed


def test_a_name_is_resolved_when_it_is_used() -> None:
    assert resolve("sqrt", {"sqrt": "math:sqrt"}, kind="functions")(9) == 3


def test_an_unknown_name_gets_the_nearest_and_the_list() -> None:
    with pytest.raises(UnknownNameError) as caught:
        resolve("glide:tinny", {"glide:tiny": "x:y", "folder": "x:z"}, kind="models")
    assert "did you mean 'glide:tiny'?" in str(caught.value)
    assert "folder, glide:tiny" in str(caught.value)


def test_a_missing_extra_names_the_command() -> None:
    with pytest.raises(MissingExtraError, match=r"pip install 'evalkit\[app\]'"):
        require("no_such_module_at_all", extra="app", what="the rating app")


@given(seed=st.integers(0, 2**62), caption=st.text(), index=st.integers(0, 1000))
def test_seeds_are_positive_and_fit_an_int64(seed: int, caption: str, index: int) -> None:
    assert 0 <= image_seed(seed, caption, index) < 2**63


def test_each_part_of_a_seed_matters() -> None:
    changed = [(0, "1", 0), (1, "1", 0), (0, "2", 0), (0, "1", 1)]
    assert len({image_seed(*parts) for parts in changed}) == len(changed)
    assert image_seed(1, "1", 0) != image_seed(11, "", 0)


def test_the_rule_does_not_change() -> None:
    """Runs made years apart share their noise, so this value is part of the format."""
    assert image_seed(0, "42", 0) == 5493790103691096839


@dataclass(frozen=True)
class Fruit:
    taste: str


OWN = {"apple": Fruit("sour")}


@pytest.fixture
def fruits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_package(
        tmp_path,
        monkeypatch,
        modules={"somebodys_number": "NUMBER = 7\ndef pear(): return 'sweet'"},
        entry_points={
            "evalkit.fruits": {
                "x/number": "somebodys_number:NUMBER",
                "x/pear": "somebodys_number:pear",
                "x/gone": "no_such_module:ROW",
                "x/typo": "somebodys_number:PEER",
            }
        },
    )


@pytest.mark.usefixtures("fruits")
def test_names_of_a_catalog_are_known_without_loading_a_row() -> None:
    catalog = Catalog("fruits", OWN, Fruit)
    assert list(catalog) == ["apple", "x/number", "x/pear", "x/gone", "x/typo"]
    assert len(catalog) == 5
    assert "x/gone" in catalog
    assert "plum" not in catalog
    assert catalog["apple"].taste == "sour"


@pytest.mark.usefixtures("fruits")
@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("x/number", "is a int, expected a Fruit"),
        ("x/pear", "is a function, expected a Fruit"),
        ("x/gone", "can't be loaded"),
        ("x/typo", "can't be loaded"),
        ("appel", "did you mean 'apple'"),
    ],
)
def test_what_is_no_row_is_told(name: str, complaint: str) -> None:
    with pytest.raises((ConfigError, UnknownNameError), match=complaint):
        Catalog("fruits", OWN, Fruit)[name]


@pytest.mark.usefixtures("fruits")
def test_a_bare_object_can_be_adopted() -> None:
    catalog = Catalog("fruits", OWN, Fruit, adopt=lambda name, make: Fruit(name + make()))
    assert catalog["x/pear"] == Fruit("x/pearsweet")
    with pytest.raises(ConfigError, match="is a int"):
        catalog["x/number"]
