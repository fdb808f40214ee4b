"""A level is checked wherever one is taken, in one way, and its arithmetic stands in one place."""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.main import get_command
from typer.testing import CliRunner
from vote_tables import grid_votes

from drawbench.stats.agreement import agreement, metric_agreement
from drawbench.stats.analysis import Options
from drawbench.stats.bootstrap import percentile_interval
from drawbench.stats.clustered import estimate_mean, make_layout
from drawbench.stats.coverage import binomial_band
from drawbench.stats.power import StudyPlan, critical_values, plan_looks, raters_needed
from drawbench.stats.preference import adjust_for_categories, preference, preferences
from drawbench.stats.ranking import rank
from drawbench.stats.raters import side_bias
from drawbench.stats.ratings import mean_ratings, rating_differences
from drawbench.stats.transitivity import transitivity
from evalkit import cli
from evalkit.core import intervals
from evalkit.core.errors import ConfigError
from evalkit.core.results import Interval
from evalkit.metrics.clip_score import clip_score
from evalkit.metrics.cmmd import cmmd
from evalkit.metrics.composition import Composition, wilson_interval
from evalkit.metrics.deletions import DeletionDifference
from evalkit.metrics.frechet.difference import (
    frechet_difference_of_groups,
    paired_frechet_difference,
)
from evalkit.metrics.frechet.interval import frechet_interval, frechet_interval_of_groups
from evalkit.metrics.frechet.jackknife import GroupedMoments, Jackknifed
from evalkit.metrics.inception_score import inception_score
from evalkit.metrics.kid import _interval as kid_interval
from evalkit.metrics.kid import kid
from evalkit.metrics.means import mean_interval
from evalkit.metrics.paired_rates import paired_rate_difference, paired_share_difference
from evalkit.metrics.planning import plan_fid
from evalkit.metrics.prdc import prdc
from evalkit.metrics.r_precision import r_precision
from evalkit.metrics.shares import Sampled, density_interval, share_interval, share_of
from evalkit.options import MeasureOptions

BAD = [95, 0, 1, -1, float("nan")]
ONE, TWO = np.zeros((1, 1)), np.eye(2)
"""A level is refused before the data are looked at, so most of these have none worth a number."""
VOTES = grid_votes(["ab", "ba"])
NOTHING = pd.DataFrame()
PLAN = StudyPlan(category_sizes=(5,), raters_per_category=4)
LAYOUT = make_layout(np.arange(2), np.arange(2), np.zeros(2))
SAMPLED = Sampled(units=4, draws=2)
GROUPS = GroupedMoments.of_features(np.eye(4), np.arange(4), 4)
FRECHET = "evalkit.metrics.frechet.interval"
DIFFERENCE = "evalkit.metrics.frechet.difference"
CALLS: dict[str, Callable[[float], object]] = {
    "evalkit.core.intervals:check_level": intervals.check_level,
    "evalkit.core.intervals:normal_quantile": intervals.normal_quantile,
    "evalkit.core.intervals:t_quantile": lambda x: intervals.t_quantile(x, 1),
    "evalkit.core.intervals:normal_interval": lambda x: intervals.normal_interval(0, 1, level=x),
    "evalkit.core.intervals:t_interval": lambda x: intervals.t_interval(0, 1, 1, level=x),
    "evalkit.core.intervals:wilson_interval": lambda x: intervals.wilson_interval(0.5, 2, level=x),
    "evalkit.core.intervals:wilson_t_interval": lambda x: intervals.wilson_t_interval(
        0.5, 2, 1, level=x
    ),
    "evalkit.core.intervals:wilson_interval_of_hits": lambda x: intervals.wilson_interval_of_hits(
        1, 2, level=x
    ),
    "evalkit.core.intervals:paired_rates_interval": lambda x: intervals.paired_rates_interval(
        1, 1, 2, level=x
    ),
    "evalkit.core.intervals:percentile_interval": lambda x: intervals.percentile_interval(
        [0.0], level=x
    ),
    "evalkit.metrics.clip_score:clip_score": lambda x: clip_score(TWO, TWO, level=x),
    "evalkit.metrics.cmmd:ClipMmd.interval_at": lambda x: cmmd(TWO, TWO).interval_at(x),
    "evalkit.metrics.kid:KernelDistance.interval_at": lambda x: kid(TWO, TWO).interval_at(x),
    "evalkit.metrics.kid:KernelDistance.full_interval_at": lambda x: kid(TWO, TWO).full_interval_at(
        x
    ),
    "evalkit.metrics.composition:Composition.records": lambda x: Composition([], [], [], 0).records(
        level=x
    ),
    "evalkit.metrics.composition:wilson_interval": lambda x: wilson_interval(1, 2, level=x),
    "evalkit.metrics.inception_score:inception_score": lambda x: inception_score([], level=x),
    f"{DIFFERENCE}:frechet_difference_of_groups": lambda x: frechet_difference_of_groups(
        GROUPS, GROUPS, GROUPS, level=x
    ),
    f"{DIFFERENCE}:paired_frechet_difference": lambda x: paired_frechet_difference(
        [], [], [], level=x
    ),
    "evalkit.metrics.frechet.jackknife:Jackknifed.ends": Jackknifed.of(np.ones(3), 1.0).ends,
    f"{FRECHET}:frechet_interval": lambda x: frechet_interval([], [], level=x),
    f"{FRECHET}:frechet_interval_of_groups": lambda x: frechet_interval_of_groups(
        GROUPS, GROUPS, level=x
    ),
    "evalkit.metrics.means:mean_interval": lambda x: mean_interval(np.zeros(1), level=x),
    "evalkit.metrics.paired_rates:paired_rate_difference": lambda x: paired_rate_difference(
        np.ones(2, bool), np.ones(2, bool), level=x
    ),
    "evalkit.metrics.paired_rates:paired_share_difference": lambda x: paired_share_difference(
        np.ones(2), np.ones(2), level=x
    ),
    "evalkit.metrics.deletions:DeletionDifference.of": lambda x: DeletionDifference.of(
        np.zeros(3), np.zeros(3), level=x
    ),
    "evalkit.metrics.shares:share_of": lambda x: share_of(np.zeros(1), level=x),
    "evalkit.metrics.shares:share_interval": lambda x: share_interval(0.5, None, SAMPLED, level=x),
    "evalkit.metrics.shares:density_interval": lambda x: density_interval(
        0.5, 0.1, SAMPLED, level=x
    ),
    "evalkit.metrics.planning:plan_fid": lambda x: plan_fid([], [], difference=1, level=x),
    "evalkit.metrics.prdc:prdc": lambda x: prdc([], [], level=x),
    "evalkit.metrics.r_precision:r_precision": lambda x: r_precision([], [], [], level=x),
    "drawbench.stats.agreement:agreement": lambda x: agreement(NOTHING, level=x),
    "drawbench.stats.agreement:metric_agreement": lambda x: metric_agreement(
        NOTHING, NOTHING, metric="clip", level=x
    ),
    "drawbench.stats.bootstrap:percentile_interval": lambda x: percentile_interval(
        np.zeros(2), level=x
    ),
    "drawbench.stats.clustered:estimate_mean": lambda x: estimate_mean(
        np.ones(2), np.zeros(2), LAYOUT, level=x
    ),
    "drawbench.stats.coverage:binomial_band": lambda x: binomial_band(0.5, 9, level=x),
    "drawbench.stats.power:StudyPlan.half_width": lambda x: PLAN.half_width(level=x),
    "drawbench.stats.power:StudyPlan.power": lambda x: PLAN.power(0.1, level=x),
    "drawbench.stats.power:StudyPlan.detectable_difference": lambda x: PLAN.detectable_difference(
        level=x
    ),
    "drawbench.stats.power:raters_needed": lambda x: raters_needed(PLAN, 0.1, level=x),
    "drawbench.stats.power:plan_looks": lambda x: plan_looks(PLAN, 2, level=x),
    "drawbench.stats.power:critical_values": lambda x: critical_values([1.0], level=x),
    "drawbench.stats.preference:adjust_for_categories": lambda x: adjust_for_categories(
        [], level=x
    ),
    "drawbench.stats.preference:preference": lambda x: preference(NOTHING, level=x),
    "drawbench.stats.preference:preferences": lambda x: preferences(VOTES, level=x),
    "drawbench.stats.ranking:rank": lambda x: rank(NOTHING, level=x),
    "drawbench.stats.raters:side_bias": lambda x: side_bias(NOTHING, level=x),
    "drawbench.stats.ratings:mean_ratings": lambda x: mean_ratings(NOTHING, level=x),
    "drawbench.stats.ratings:rating_differences": lambda x: rating_differences(NOTHING, level=x),
    "drawbench.stats.transitivity:transitivity": lambda x: transitivity(NOTHING, level=x),
}
"""Every public function that takes a level."""
RECORDS: dict[str, Callable[[float], object]] = {
    "every command that measures": lambda x: MeasureOptions(level=x),
    "every statistic of votes": lambda x: Options(level=x),
    "an interval": lambda x: Interval(low=0.0, high=1.0, level=x, method=""),
    "KID": lambda x: kid_interval(0.0, 1.0, x, ""),
}
COMMANDS = {
    "fid": "--model nowhere",
    "score": "nowhere --against nowhere",
    "compare": "nowhere nowhere",
    "matrix": "nowhere --against nowhere",
    "sweep": "--model nowhere",
    "preflight": "nowhere --against nowhere",
    "watch": "nowhere --against nowhere",
    "variance": "nowhere nowhere",
    "plan fid": "nowhere --difference 1",
    "drawbench results": "--votes nowhere",
}
"""Commands that take a level, with arguments that each would complain of next."""
PACKAGES = ("evalkit", "drawbench", "app", "benchmarks")
QUANTILES = {"ndtri", "ndtri_exp", "stdtrit", "stdtridf", "ppf", "isf", "inv_cdf", "erfinv"}
ALLOWED = {
    # The quantile of a power, which is one-sided and no level.
    "evalkit.metrics.planning: ndtri",
    # Quantiles of chi-squared, for the interval of a variance.
    "evalkit.analyses.variance: ppf",
    "evalkit.analyses.variance: level / 2",
    # Noise and tie thresholds of simulated raters, from uniform numbers.
    "drawbench.simulation.raters: inv_cdf",
    # A band of the binomial distribution itself.
    "drawbench.stats.coverage: interval()",
}


@pytest.mark.parametrize("level", BAD)
@pytest.mark.parametrize("name", [*CALLS, *RECORDS])
def test_a_bad_level_is_refused_in_the_same_words(name: str, level: float) -> None:
    with pytest.raises(ConfigError) as refused:
        {**CALLS, **RECORDS}[name](level)
    advice = "write 95 % as 0.95" if level == 95 else "0.95 is usual"
    assert str(refused.value) == f"Level {level} is not between 0 and 1; {advice}."


def test_no_function_that_takes_a_level_is_left_out(root: Path) -> None:
    folders = [root / "evalkit" / "core", root / "evalkit" / "metrics", root / "drawbench/stats"]
    found = {
        f"{_module(root, path)}:{name}"
        for folder in folders
        for path in sorted(folder.rglob("*.py"))
        for name in takers_of_a_level(path.read_text("utf-8"))
    }
    assert found == set(CALLS)


@pytest.mark.parametrize("level", BAD)
@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_refuses_a_bad_level_before_anything_else(command: str, level: float) -> None:
    cli._mount_drawbench()
    arguments = [*command.split(), *COMMANDS[command].split(), "--level", str(level)]
    done = CliRunner().invoke(cli.app, arguments)
    assert isinstance(done.exception, ConfigError)
    assert str(done.exception).startswith(f"Level {float(level)} is not between 0 and 1; ")


def test_it_is_one_line_and_exit_code_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["evalkit", "score", "x", "--against", "y", "--level", "95"])
    with pytest.raises(SystemExit) as left:
        cli.main()
    assert left.value.code == 2
    assert capsys.readouterr().err == (
        "evalkit: Level 95.0 is not between 0 and 1; write 95 % as 0.95.\n"
    )


def test_no_command_that_takes_a_level_is_left_out() -> None:
    cli._mount_drawbench()
    # A plan keeps its own bounds, which typer checks: below 0.5 there is nothing to plan.
    assert set(_commands_with_a_level(get_command(cli.app))) == {*COMMANDS, "drawbench plan"}


def test_nobody_else_turns_a_level_into_a_quantile(root: Path) -> None:
    found = {
        f"{_module(root, path)}: {what}"
        for package in PACKAGES
        for path in sorted((root / package).rglob("*.py"))
        for what in quantiles_of(path.read_text("utf-8"))
    }
    assert {line for line in found if not line.startswith("evalkit.core.intervals:")} == ALLOWED
    assert {f"evalkit.core.intervals: {name}" for name in ("ndtri", "stdtrit", "level / 2")} < found


@pytest.mark.parametrize(
    "source",
    [
        "from scipy.special import ndtri",
        "from scipy.special import stdtrit as quantile",
        "special.ndtri(p)",
        "norm.ppf(p)",
        "stats.t(3).isf(p)",
        "norm.interval(0.95)",
        "np.quantile(x, [0.5 - level / 2, 0.5 + level / 2])",
        "q = (1 - options.level) / 2",
    ],
)
def test_the_rule_can_fail(source: str) -> None:
    assert quantiles_of(source)


def takers_of_a_level(source: str) -> Iterator[str]:
    """Public functions and methods that have a parameter `level`."""
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef) and _takes_a_level(node):
            yield node.name
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            for item in node.body:
                if isinstance(item, ast.FunctionDef) and _takes_a_level(item):
                    yield f"{node.name}.{item.name}"


def quantiles_of(source: str) -> set[str]:
    """Quantiles of a distribution that a file computes, and halvings of a level."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom):
            found |= {alias.name for alias in node.names} & QUANTILES
        elif isinstance(node, ast.Attribute):
            found |= {node.attr} & QUANTILES
        elif isinstance(node, ast.Name):
            found |= {node.id} & QUANTILES
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            found |= {"interval()"} if node.func.attr == "interval" else set()
        elif isinstance(node, ast.BinOp) and _halves_a_level(node):
            found.add("level / 2")
    return found


def _halves_a_level(node: ast.BinOp) -> bool:
    halved = isinstance(node.op, ast.Div) and ast.unparse(node.right) == "2"
    return halved and any(
        (isinstance(part, ast.Name) and part.id == "level")
        or (isinstance(part, ast.Attribute) and part.attr == "level")
        for part in ast.walk(node.left)
    )


def _takes_a_level(node: ast.FunctionDef) -> bool:
    names = [argument.arg for argument in (*node.args.args, *node.args.kwonlyargs)]
    return "level" in names and not node.name.startswith("_")


def _commands_with_a_level(command: Any, path: str = "") -> Iterator[str]:
    for name, below in getattr(command, "commands", {}).items():
        if any("--level" in parameter.opts for parameter in below.params):
            yield f"{path}{name}"
        yield from _commands_with_a_level(below, f"{path}{name} ")


def _module(root: Path, path: Path) -> str:
    return ".".join(path.relative_to(root).with_suffix("").parts)
