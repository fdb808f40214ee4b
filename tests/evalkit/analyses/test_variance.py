"""Two levels of variance: by hand, in simulated worlds, and from runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from evalkit import cli
from evalkit.analyses.variance import nested_variance
from evalkit.commands.variance import grouped_runs
from evalkit.core.errors import ConfigError
from evalkit.core.results import ResultRecord, read_records, write_records
from evalkit.core.run import config_hash

NUM_WORLDS = 1_000
COVERAGE = (0.93, 0.97)
"""What the issue allows for a nominal 95 %."""


def test_both_intervals_by_hand() -> None:
    """Means 2, 6 and 4; mean squares 8 and 2; t(2) = 4.303, t(3) = 3.182.

    Recipe: 4 +- 4.303 * 2 / sqrt(3). Weights: mean +- 3.182 * sqrt(2 / 2).
    Training variance: (8 - 2) / 2 = 3.
    """
    found = nested_variance({"a": [1.0, 3.0], "b": [5.0, 7.0], "c": [3.0, 5.0]})
    half = 4.302652729911275 * 2 / 3**0.5
    assert found.recipe.low == pytest.approx(4 - half)
    assert found.recipe.high == pytest.approx(4 + half)
    assert found.weights["b"].low == pytest.approx(6 - 3.182446305284263)
    assert found.sampling_sd is not None
    assert found.training_sd is not None
    assert found.sampling_sd.value == pytest.approx(2**0.5)
    assert found.training_sd.value == pytest.approx(3**0.5)
    assert found.unknown == ()


@pytest.mark.parametrize("num_trainings", [3, 5])
@pytest.mark.parametrize("ratio", [0.0, 1.0, 3.0])
def test_the_recipes_interval_covers_in_simulated_worlds(ratio: float, num_trainings: int) -> None:
    rng = np.random.default_rng(int(10 * ratio) + num_trainings)
    recipe, weights, sampling = 0, 0, 0
    for _ in range(NUM_WORLDS):
        effects = 10 + ratio * rng.standard_normal(num_trainings)
        values = {
            str(i): (effect + rng.standard_normal(3)).tolist() for i, effect in enumerate(effects)
        }
        found = nested_variance(values)
        assert found.recipe.low is not None
        assert found.recipe.high is not None
        recipe += found.recipe.low <= 10 <= found.recipe.high
        first = found.weights["0"]
        assert first.low is not None
        assert first.high is not None
        weights += first.low <= effects[0] <= first.high
        spread = found.sampling_sd
        assert spread is not None
        assert spread.low is not None
        assert spread.high is not None
        sampling += spread.low <= 1 <= spread.high
    for covered in (recipe, weights, sampling):
        assert COVERAGE[0] <= covered / NUM_WORLDS <= COVERAGE[1]


def test_the_weights_interval_misses_the_recipe_where_training_matters() -> None:
    """The reason for this module: an interval for weights is none for the recipe."""
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(300):
        effect = 10 + 3 * rng.standard_normal()
        found = nested_variance({"only": (effect + rng.standard_normal(3)).tolist()})
        only = found.weights["only"]
        assert only.low is not None
        assert only.high is not None
        covered += only.low <= 10 <= only.high
    assert covered / 300 < 0.8


def test_the_interval_of_the_training_deviation_covers() -> None:
    rng = np.random.default_rng(2)
    covered = 0
    for _ in range(NUM_WORLDS):
        effects = 3 * rng.standard_normal(5)
        values = {str(i): (e + rng.standard_normal(3)).tolist() for i, e in enumerate(effects)}
        spread = nested_variance(values).training_sd
        assert spread is not None
        assert spread.low is not None
        assert spread.high is not None
        covered += spread.low <= 3 <= spread.high
    assert COVERAGE[0] <= covered / NUM_WORLDS <= COVERAGE[1]


def test_what_cant_be_known_is_said() -> None:
    one = nested_variance({"a": [1.0, 2.0, 3.0]})
    assert (one.recipe.low, one.training_sd) == (None, None)
    assert one.weights["a"].low is not None
    assert "can't tell what another training would give" in one.unknown[0]
    single = nested_variance({"a": [1.0], "b": [2.0]})
    assert single.recipe.low is not None
    assert (single.sampling_sd, single.training_sd) == (None, None)
    assert "can't tell sampling from training" in single.unknown[0]
    with pytest.raises(ConfigError, match="no values"):
        nested_variance({})


def test_levels_matter_and_agree_with_a_t_test() -> None:
    values = {"a": [1.0], "b": [2.5], "c": [2.0]}
    found = nested_variance(values, level=0.9)
    low, high = stats.t.interval(0.9, 2, np.mean([1, 2.5, 2]), stats.sem([1, 2.5, 2]))
    assert (found.recipe.low, found.recipe.high) == (pytest.approx(low), pytest.approx(high))


def write_run(folder: Path, *, weights: str, seed: int, value: float, **more: Any) -> Path:
    folder.mkdir(parents=True)
    config = {"model": "ddpm:tiny", "display_name": "DDPM", "weights_sha256": weights, "seed": seed}
    config |= more
    document = {
        "schema_version": 1, "hash": config_hash(config), "config": config, "made_with": {},
    }  # fmt: skip
    (folder / "run.json").write_text(json.dumps(document))
    record = ResultRecord(
        metric="fd", value=value, n=100, direction="lower",
        fingerprint={"crop": "none", "weights_sha256": weights, "seed": seed},
    )  # fmt: skip
    write_records(folder / "results.json", [record])
    return folder


def test_runs_are_grouped_by_weights_and_by_seed(tmp_path: Path) -> None:
    runs = [
        write_run(tmp_path / f"{w}{s}", weights=w, seed=s, value=10.0 + s + 5 * (w == "b"))
        for w in "ab"
        for s in (0, 1)
    ]
    groups = grouped_runs([str(run) for run in runs], [])
    assert [len(several) for several in groups.values()] == [2, 2]
    named = grouped_runs([], [f"first={runs[0]},{runs[1]}", f"second={runs[2]},{runs[3]}"])
    assert list(named) == ["first", "second"]


def test_the_command_gives_both_intervals(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [
        write_run(tmp_path / f"{w}{s}", weights=w, seed=s, value=10.0 + s + 5 * k)
        for k, w in enumerate("abc")
        for s in (0, 1)
    ]
    out = tmp_path / "v.json"
    cli.app(["variance", *map(str, runs), "--json", str(out)], standalone_mode=False)
    shown = " ".join(capsys.readouterr().out.split())
    assert "this recipe" in shown
    assert "these weights" in shown
    first = read_records(out)[0]
    expected = nested_variance({"a": [10.0, 11.0], "b": [15.0, 16.0], "c": [20.0, 21.0]})
    assert first.value == pytest.approx(15.5)
    assert first.interval is not None
    assert first.interval.low == pytest.approx(expected.recipe.low)
    assert first.subject.startswith("this recipe")


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"model": "glide:tiny"}, "different models"),
        ({"seed": 0}, "the same weights and seed"),
    ],
)
def test_runs_that_are_no_replicates_are_refused(
    tmp_path: Path, change: dict[str, Any], complaint: str
) -> None:
    first = write_run(tmp_path / "a", weights="a", seed=0, value=1.0)
    fields = {"weights": "a", "seed": 1, "value": 2.0, **change}
    other = write_run(tmp_path / "b", **fields)
    with pytest.raises(ConfigError, match=complaint) as caught:
        grouped_runs([str(first), str(other)], [])
    assert "\n" not in str(caught.value)


def test_runs_measured_differently_are_refused(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / str(s), weights="a", seed=s, value=1.0 + s) for s in (0, 1)]
    records = read_records(runs[1] / "results.json")
    changed = [r.with_context(subject="", fingerprint={"crop": "center"}) for r in records]
    write_records(runs[1] / "results.json", changed)
    with pytest.raises(ConfigError, match="crop is none there, center here"):
        cli.app(["variance", *map(str, runs)], standalone_mode=False)
