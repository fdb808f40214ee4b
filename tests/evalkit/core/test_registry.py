"""Names, catalogs and seeds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalkit.core.errors import MissingExtraError, UnknownNameError
from evalkit.core.registry import require, resolve
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
