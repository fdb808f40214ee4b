"""Agreement between raters, and of scores with raters."""

from __future__ import annotations

import ast
import csv
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from drawbench.errors import NoVotesError, VotesError
from drawbench.stats.agreement import (
    agreement,
    alpha_from_pairs,
    answer_counts,
    fleiss_kappa,
    krippendorff_alpha,
    metric_agreement,
    read_scores,
)
from tests.support.vote_tables import grid_votes, make_votes

IMAGENHUB_KAPPA = {
    "DALLE": 0.37,
    "DeepFloydIF": 0.53,
    "OpenJourney": 0.46,
    "SD": 0.55,
    "SDXL": 0.49,
    "Midjourney": 0.44,
    "DALLE3": 0.47,
}
"""Fleiss' kappa of semantic consistency as printed with the ratings (TIGER-AI-Lab/ImagenHub)."""


def _imagenhub_counts(shared: Path, model: str) -> np.ndarray:
    levels = [0, 0.5, 1]
    counts = np.zeros((197, 3))
    for rater in (1, 2, 3):
        file = shared / "data" / f"imagenhub_t2i_rater{rater}.tsv"
        with file.open(encoding="utf-8") as handle:
            for item, row in enumerate(csv.DictReader(handle, delimiter="\t")):
                counts[item, levels.index(ast.literal_eval(row[model])[0])] += 1
    return counts


@pytest.mark.parametrize("model", IMAGENHUB_KAPPA)
def test_fleiss_kappa_of_imagenhub(shared: Path, model: str) -> None:
    found = fleiss_kappa(_imagenhub_counts(shared, model))
    assert round(found, 2) == IMAGENHUB_KAPPA[model]


def test_fleiss_kappa_textbook() -> None:
    """Ten subjects, fourteen raters, five categories: 0.210 (the example of Wikipedia)."""
    counts = [
        [0, 0, 0, 0, 14], [0, 2, 6, 4, 2], [0, 0, 3, 5, 6], [0, 3, 9, 2, 0], [2, 2, 8, 1, 1],
        [7, 7, 0, 0, 0], [3, 2, 6, 3, 0], [2, 5, 3, 2, 2], [6, 5, 2, 1, 0], [0, 2, 2, 3, 7],
    ]  # fmt: skip
    assert fleiss_kappa(counts) == pytest.approx(0.210, abs=5e-4)


NOTHING = np.nan
KRIPPENDORFF = np.array([
    [1, 2, 3, 3, 2, 1, 4, 1, 2, NOTHING, NOTHING, NOTHING],
    [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, NOTHING, 3],
    [NOTHING, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, NOTHING],
    [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, NOTHING],
])  # fmt: skip
"""Four observers, twelve units, with missing data (Krippendorff 2011, section C)."""


def _krippendorff_counts() -> np.ndarray:
    return np.stack([(value == KRIPPENDORFF).sum(axis=0) for value in range(1, 6)], axis=1)


def test_krippendorff_alpha_of_his_worked_example() -> None:
    counts = _krippendorff_counts()
    assert krippendorff_alpha(counts, measurement="nominal") == pytest.approx(0.743, abs=5e-4)
    assert krippendorff_alpha(counts, measurement="ordinal") == pytest.approx(0.815, abs=5e-4)


def test_resampled_alpha_is_the_librarys() -> None:
    counts = _krippendorff_counts().astype(float)
    counts = counts[counts.sum(axis=1) > 1]
    pairs = counts[:, :, None] * counts[:, None, :] - counts[:, :, None] * np.eye(5)
    pairs /= (counts.sum(axis=1) - 1)[:, None, None]
    found = float(alpha_from_pairs(pairs.sum(axis=0)))
    assert found == pytest.approx(krippendorff_alpha(counts), abs=1e-12)


def test_chance_and_perfect_agreement() -> None:
    perfect = agreement(grid_votes(["abt", "abt", "abt"]))
    assert (perfect.alpha, perfect.kappa, perfect.percent) == (1.0, 1.0, 1.0)
    rng = np.random.default_rng(0)
    rows = ["".join(rng.choice(list("atb"), 200)) for _ in range(10)]
    chance = agreement(grid_votes(rows))
    assert chance.alpha == pytest.approx(0, abs=0.03)
    assert chance.kappa == pytest.approx(0, abs=0.03)
    assert chance.alpha_interval is not None
    assert chance.alpha_interval.low < 0 < chance.alpha_interval.high


def test_ordinal_alpha_forgives_a_tie_more_than_a_contradiction() -> None:
    near = agreement(grid_votes(["aabbt", "atbbt"]))
    far = agreement(grid_votes(["aabbt", "abbbt"]))
    assert near.alpha is not None
    assert far.alpha is not None
    assert near.alpha > far.alpha


def test_items_with_one_rating_are_left_out_and_counted() -> None:
    """Counting them as agreed would raise agreement for nothing."""
    votes = make_votes([
        ("r1", "p1", "", "a"), ("r2", "p1", "", "b"), ("r1", "p2", "", "a"), ("r2", "p2", "", "a"),
        ("r1", "p3", "", "a"),
    ])  # fmt: skip
    found = agreement(votes)
    assert (found.num_items, found.num_single) == (2, 1)
    assert found.percent == 0.5


def test_unequal_numbers_of_ratings_leave_alpha_and_say_why_no_kappa() -> None:
    rows = [(f"r{r}", f"p{p}", "", "ab"[p % 2]) for p in range(4) for r in range(2 + p)]
    found = agreement(make_votes(rows))
    assert found.alpha == 1.0
    assert found.kappa is None
    assert "same number of ratings" in found.reason


def test_all_alike_has_no_alpha_but_a_reason() -> None:
    found = agreement(grid_votes(["aaa", "aaa"]))
    assert (found.alpha, found.kappa, found.alpha_interval) == (None, None, None)
    assert "all ratings are equal" in found.reason
    assert found.percent == 1.0


def test_pairs_in_both_orders_are_one_item() -> None:
    one = make_votes([("r1", "p", "", "a")])
    two = make_votes([("r2", "p", "", "b")], model_a="glide", model_b="imagen")
    counts, _ = answer_counts(pd.concat([one, two], ignore_index=True))
    assert sorted(counts[0]) == [0, 0, 2]


def test_nothing_to_agree_on() -> None:
    with pytest.raises(NoVotesError):
        agreement(grid_votes(["a"]).iloc[:0])
    with pytest.raises(VotesError, match="at least one item"):
        fleiss_kappa(np.zeros((0, 3)))
    with pytest.raises(VotesError, match="two ratings"):
        krippendorff_alpha([[1, 0, 0]])


def _scores(slope: float) -> pd.DataFrame:
    """Prompt i is won by A in i of 6 votes; the score of A rises by `slope` a win."""
    rows = [(f"p{i}", "imagen", 0.3 + slope * i) for i in range(7)]
    rows += [(f"p{i}", "glide", 0.3 + slope * 3) for i in range(7)]
    return pd.DataFrame(rows, columns=["prompt_id", "model", "score"])


def test_metric_that_follows_people_and_one_that_opposes_them() -> None:
    rows = ["".join("a" if rater < prompt else "b" for prompt in range(7)) for rater in range(6)]
    votes = grid_votes(rows)
    (good,) = metric_agreement(votes, _scores(0.1), metric="clip-score")
    (bad,) = metric_agreement(votes, _scores(-0.1), metric="clip-score")
    assert (good.correlation, good.same_side) == (pytest.approx(1.0), 1.0)
    assert (bad.correlation, bad.same_side) == (pytest.approx(-1.0), 0.0)
    assert good.interval is None  # every resample has the same correlation
    assert good.reason == "no interval: the correlations of all resamples are equal"
    noisy = _scores(0.1)
    noisy.loc[2, "score"], noisy.loc[3, "score"] = noisy.loc[3, "score"], noisy.loc[2, "score"]
    (close,) = metric_agreement(votes, noisy, metric="clip-score")
    assert close.correlation == pytest.approx(1 - 6 * 2 / (7 * 48))
    assert close.interval is not None
    assert close.interval.low < close.correlation <= close.interval.high
    assert good.num_prompts == 7
    (few,) = metric_agreement(votes, _scores(0.1).iloc[:3], metric="clip-score")
    assert few.correlation is None
    assert "at least 5" in few.reason


def test_metric_by_category_and_over_categories() -> None:
    """Category c of five is won by A in c of 4 votes on each of its 2 prompts, and scored so.

    Over the five means the orders agree wholly. Two prompts make no correlation, but their mean
    difference and win rate stand: category 4 has 0.4 and 100 %.
    """
    answers = [
        (f"r{rater}", f"{c}-{prompt}", f"cat {c}", "a" if rater < c else "b")
        for c in range(5)
        for prompt in range(2)
        for rater in range(4)
    ]
    scores = pd.DataFrame(
        [
            (f"{c}-{prompt}", model, 0.1 * c * (model == "imagen"))
            for c in range(5)
            for prompt in range(2)
            for model in ("imagen", "glide")
        ],
        columns=["prompt_id", "model", "score"],
    )
    found = metric_agreement(make_votes(answers), scores, metric="clip-score")
    assert [(item.category, item.over) for item in found[:3]] == [
        (None, "prompts"),
        (None, "categories"),
        ("cat 0", "prompts"),
    ]
    over_categories, last = found[1], found[-1]
    assert over_categories.correlation == pytest.approx(1.0)
    assert over_categories.num_prompts == 5
    assert over_categories.interval is None
    assert "categories are those of the suite" in over_categories.reason
    assert (last.category, last.correlation) == ("cat 4", None)
    assert (last.mean_difference, last.win_rate) == (pytest.approx(0.4), 1.0)
    assert last.reason == "2 prompts, at least 5 are needed"


def test_spearman_equals_scipy() -> None:
    from scipy.stats import spearmanr

    rng = np.random.default_rng(1)
    votes = grid_votes(["".join(rng.choice(list("atb"), 30)) for _ in range(5)])
    scores = pd.DataFrame(
        [(f"p{i}", m, float(rng.normal())) for i in range(30) for m in ("imagen", "glide")],
        columns=["prompt_id", "model", "score"],
    )
    (found,) = metric_agreement(votes, scores, metric="m")
    wide = scores.pivot_table(index="prompt_id", columns="model", values="score")
    wins = votes["answer"].map({"a": 1.0, "tie": 0.5, "b": 0.0}).groupby(votes["prompt_id"]).mean()
    expected = spearmanr(wide["imagen"] - wide["glide"], wins[wide.index]).statistic
    assert found.correlation == pytest.approx(expected)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("prompt_id,model\np,m\n", "'score' is missing"),
        ("prompt_id,model,score\np,m,high\n", "row 1: score is not a number, got 'high'"),
        ("prompt_id,model,score\np,m,nan\n", "row 1: score is not a number"),
        ("prompt_id,model,score\np,m,1\np,m,2\n", "row 2: second score"),
    ],
)
def test_bad_scores_are_named(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "scores.csv"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(VotesError, match=message):
        read_scores(file)


def test_scores_of_several_metrics(tmp_path: Path) -> None:
    file = tmp_path / "scores.csv"
    file.write_text("prompt_id,model,score,metric\np,m,1,clip\np,m,2,pick\n", encoding="utf-8")
    assert {name: list(part["score"]) for name, part in read_scores(file).items()} == {
        "clip": [1.0],
        "pick": [2.0],
    }
