"""The page, the tables and the records of a study."""

from __future__ import annotations

import csv
import dataclasses
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from drawbench.errors import StudyError
from drawbench.report.card import NOT_STATED, ReportingCard, read_card
from drawbench.report.page import Context, examples, render_page
from drawbench.report.pictures import no_pictures
from drawbench.report.tables import prompts_csv, raters_csv, results_csv
from drawbench.report.write import write_report
from drawbench.simulation.raters import SimulatedPanel, simulate_votes
from drawbench.stats.analysis import WIN_RATE, Analysis, Options, analyse, records
from drawbench.stats.raters import QualityRules
from drawbench.votes import validate_votes
from evalkit.core.errors import DataError
from evalkit.core.results import read_records
from tests.support.vote_tables import grid_votes

HOSTILE = "<script>alert(1)</script>"
FORMULA = "=HYPERLINK(1)"


class _Tags(HTMLParser):
    """Collects tags and attributes, and that every tag is closed."""

    VOID = ("meta", "br", "img", "line", "circle", "rect")

    def __init__(self, page: str) -> None:
        super().__init__()
        self.names: list[str] = []
        self.links: list[str] = []
        self.open: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_page_is_whole_offline_and_says_that_raters_are_simulated(analysis: Analysis) -> None:
    page = render_page(analysis)
    tags = _Tags(page)
    assert tags.open == []
    assert "script" not in tags.names
    assert all(link.startswith("data:image/") for link in tags.links)
    assert not re.search(r"https?://|url\(", page)
    assert "Simulated: 216 of 216 votes" in page
    # Bar and forest, of two questions, whole and by part; and Davidson's points of two models.
    assert tags.names.count("svg") == 2 * 2 * (2 + 2) + 2 * 2


def test_page_shows_what_was_computed(analysis: Analysis) -> None:
    page = render_page(analysis)
    for question in analysis.pairs[0].questions:
        for item in (question.overall, *question.categories):
            assert f"{100 * item.win_rate.value:.1f} %" in page
    assert analysis.pairs[0].conclusion.sentence.split(" (")[0] in page
    assert analysis.votes_sha256 in page
    assert "too narrow" in page
    assert analysis.filtered is not None
    assert f"{analysis.filtered.num_raters} of {analysis.num_raters} raters" in page
    assert f"{analysis.num_flagged} raters flagged" in page


def test_raw_and_filtered_stand_side_by_side(analysis: Analysis) -> None:
    assert analysis.filtered is not None
    assert analysis.num_votes == 216
    assert analysis.filtered.num_votes < 216
    raw, kept = (
        a.pairs[0].questions[0].overall.win_rate.value for a in (analysis, analysis.filtered)
    )
    assert raw != kept
    rows = list(csv.DictReader(io.StringIO(results_csv(analysis))))
    assert {row["raters"] for row in rows} == {"all", "unflagged"}
    own = [r for r in records(analysis) if r.metric == WIN_RATE]
    assert {r.fingerprint["raters"] for r in own} == {"all", "unflagged"}


def test_records_carry_interval_and_fingerprint(analysis: Analysis, tmp_path: Path) -> None:
    write_report(tmp_path / "out", analysis)
    found = read_records(tmp_path / "out" / "results.json")
    assert found == [dataclasses.replace(r) for r in _json_like(records(analysis))]
    overall = next(r for r in found if r.metric == WIN_RATE)
    assert overall.interval is not None
    assert overall.fingerprint["votes_sha256"] == analysis.votes_sha256
    assert overall.fingerprint["ties"] == "half"
    assert overall.fingerprint["num_raters"] == 24
    assert overall.fingerprint["num_prompts"] == 9
    assert overall.fingerprint["simulated"] is True
    assert overall.fingerprint["generalises_to"] == ["raters", "prompts"]
    assert overall.fingerprint["interval_method"] == overall.interval.method
    shares = [overall.details[f"share_{name}"]["value"] for name in ("a", "tie", "b")]
    assert sum(shares) == pytest.approx(1)
    for record in found:
        assert record.interval is not None or record.reason
    assert {r.metric for r in found} == {
        WIN_RATE, "krippendorff-alpha", "fleiss-kappa", "drawbench-left-rate",
        "drawbench-davidson",
    }  # fmt: skip


def _json_like(found: list) -> list:
    import json

    from evalkit.core.results import record_from_dict

    return [record_from_dict(json.loads(json.dumps(r.as_dict()))) for r in found]


def test_options_change_the_fingerprint() -> None:
    votes = grid_votes(["aatb", "abta", "taab"])
    half, drop = (
        records(analyse(votes, options=Options(ties=ties, resamples=0)))[0]
        for ties in ("half", "drop")
    )
    assert half.value != drop.value
    assert half.fingerprint["ties"] != drop.fingerprint["ties"]
    strict = analyse(votes, options=Options(resamples=0, rules=QualityRules(min_votes=3)))
    assert records(strict)[0].fingerprint["quality_rules"]["min_votes"] == 3


@pytest.fixture(scope="module")
def hostile() -> Analysis:
    """Markup and formulas in every text that comes from outside."""
    votes = grid_votes(["ababab", "babbab", "aabbba"], category=HOSTILE)
    votes = votes.assign(
        model_a=FORMULA, model_b=HOSTILE, question=HOSTILE, prompt=HOSTILE, rater_status="returned"
    )
    votes["rater_id"] = votes["rater_id"] + HOSTILE
    return analyse(validate_votes(votes), options=Options(resamples=0))


def test_texts_stay_text_in_html(hostile: Analysis) -> None:
    card = ReportingCard(title=HOSTILE, raters=HOSTILE, questions={HOSTILE: HOSTILE})
    page = render_page(hostile, Context(card=card, label=HOSTILE, source=HOSTILE))
    assert "<script" not in page
    assert "script" not in _Tags(page).names
    assert "&lt;script&gt;" in page


def test_texts_stay_text_in_csv(hostile: Analysis) -> None:
    for text in (results_csv(hostile), prompts_csv(hostile), raters_csv(hostile)):
        for row in csv.reader(io.StringIO(text)):
            for cell in row:
                assert not cell.startswith(("=", "+", "@")), cell
                assert not cell.startswith("-") or float(cell) < 0
    assert "'" + FORMULA in results_csv(hostile)


def test_rater_ids_are_in_no_report(analysis: Analysis, tmp_path: Path) -> None:
    ids = set(analysis.quality["rater_id"])
    for file in write_report(tmp_path, analysis):
        text = file.read_text("utf-8")
        assert not any(rater_id in text for rater_id in ids), file.name


def test_examples_are_the_extremes(analysis: Analysis) -> None:
    table = analysis.prompts
    (first, *_) = examples(analysis, no_pictures, by="one_sided")
    assert table["one_sided"].max() == pytest.approx(
        abs(first.shares[0] + first.shares[1] / 2 - 0.5) * 2
    )
    disputed = examples(analysis, no_pictures, by="disputed")
    values = [4 * item.shares[0] * item.shares[2] for item in disputed]
    assert values[0] == pytest.approx(table["disputed"].max())
    assert values == sorted(values, reverse=True)
    assert len({item.prompt_id for item in disputed}) == len(disputed)


def test_pictures_are_small_and_without_metadata(analysis: Analysis, tmp_path: Path) -> None:
    import base64

    file = tmp_path / "secret-model-name.png"
    picture = Image.fromarray(np.zeros((400, 300, 3), np.uint8))
    exif = Image.Exif()
    exif[0x010E] = "secret"
    picture.save(file, exif=exif)
    context = Context(gallery=lambda prompt_id, model: [file] * 9)
    page = render_page(analysis, context)
    addresses = re.findall(r"data:image/jpeg;base64,([^\"]+)", page)
    assert len(addresses) == 2 * 6 * 2 * 8  # two lists of six prompts, two sides, eight at most
    data = base64.b64decode(addresses[0])
    assert b"secret" not in data
    assert max(Image.open(io.BytesIO(data)).size) == 112
    assert "secret" not in page
    with pytest.raises(DataError, match=r"gone\.png: can't read"):
        render_page(analysis, Context(gallery=lambda p, m: [tmp_path / "gone.png"]))


def test_several_models_are_ranked(tmp_path: Path) -> None:
    panel = SimulatedPanel(strengths={"x": 0.6, "y": 0.0, "z": -0.6})
    pairs = [("x", "y"), ("x", "z"), ("y", "z")]
    votes = simulate_votes(panel, sizes={"one": 9}, raters_per_category=12, pairs=pairs,
                           questions=("fidelity",))  # fmt: skip
    found = analyse(votes, options=Options(resamples=0))
    assert len(found.pairs) == 3
    page = render_page(found)
    assert "Ranking of the models" in page
    assert _Tags(page).open == []
    write_report(tmp_path, found)
    metrics = {record.metric for record in read_records(tmp_path / "results.json")}
    assert {"drawbench-bradley-terry", "drawbench-davidson", "drawbench-elo"} <= metrics


def test_one_rater_and_nothing_optional_still_makes_a_page() -> None:
    found = analyse(grid_votes(["abt"]), options=Options(resamples=0))
    page = render_page(found)
    assert "not recorded" in page
    assert "No rater is flagged" in page
    single = analyse(grid_votes(["a"]), options=Options(resamples=0))
    assert "no interval" in render_page(single)
    first = records(single)[0]
    assert first.interval is None
    assert "nothing was sampled" in first.reason


def test_everybody_flagged() -> None:
    votes = grid_votes(["ab", "ba"]).assign(rater_status="rejected")
    found = analyse(votes, options=Options(resamples=0))
    assert found.filtered is None
    assert "Every rater is flagged" in render_page(found)


def test_reporting_card(tmp_path: Path) -> None:
    Image.new("RGB", (1200, 800), "white").save(tmp_path / "page.png")
    file = tmp_path / "card.toml"
    file.write_text(
        'title = "Study"\nraters = "275 people"\nimages_per_side = 8\nscreenshots = ["page.png"]\n'
        '[questions]\nfidelity = "Which is better?"\n',
        encoding="utf-8",
    )
    card = read_card(file)
    rows = dict(card.rows())
    assert rows["Raters"] == "275 people"
    assert rows["Images on each side"] == "8"
    assert rows["Payment"] == NOT_STATED
    assert rows["Question “fidelity”"] == "Which is better?"
    other = ReportingCard(raters="300 people", payment="12 an hour").completed_by(card)
    assert (other.raters, other.payment) == ("275 people", "12 an hour")
    page = render_page(
        analyse(grid_votes(["ab", "ba"]), options=Options(resamples=0)), Context(card=card)
    )
    assert "<dt>Screenshots</dt><dd>1 below" in page


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("title = 3", "title: .*Known keys: title"),
        ('payed = "a lot"', "payed: "),
        ("title =", "not a TOML file"),
        ('screenshots = ["none.png"]', r"screenshot .*none\.png not found"),
    ],
)
def test_bad_cards_are_named(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "card.toml"
    with pytest.raises(StudyError, match="can't be read"):
        read_card(file)
    file.write_text(text, encoding="utf-8")
    with pytest.raises(StudyError, match=message):
        read_card(file)


def test_page_and_records_name_models_that_are_not_ranked() -> None:
    """Three linked models, and one that lost its only vote; one category has a single prompt."""
    rng = np.random.default_rng(3)
    rows = [
        (f"r{r}", f"p{p}", "lone" if p == 0 else "c", a, b, "fidelity", str(rng.choice(["a", "b"])))
        for r in range(6)
        for p in range(6)
        for a, b in (("x", "y"), ("y", "z"), ("z", "x"))
    ]
    rows.append(("r0", "p1", "c", "x", "new", "fidelity", "a"))
    names = ["rater_id", "prompt_id", "category", "model_a", "model_b", "question", "answer"]
    analysis = analyse(pd.DataFrame(rows, columns=names), options=Options(resamples=0))
    page = render_page(analysis)
    assert "new (1 vote, lost all)" in page
    assert "Differences of all 3 pairs" in page
    assert "Volatility" in page
    assert "raters only: one prompt" in page
    assert "Intransitive triples" in page
    found = records(analysis)
    left_out = [item for item in found if item.subject == "new"]
    assert [(item.metric, item.value, item.n, item.state) for item in left_out] == [
        (f"drawbench-{kind}", None, 1, "not_applicable")
        for kind in ("bradley-terry", "davidson", "elo")
    ]
    assert all(item.reason == "not ranked: 1 vote, lost all" for item in left_out)
    ranked = [item for item in found if item.metric == "drawbench-bradley-terry" and item.value]
    assert all(0 <= item.details["rank_volatility"] <= 1 for item in ranked)
    assert all(len(item.details["differences"]) == 2 for item in ranked)
    (triples,) = [item for item in found if item.metric == "drawbench-intransitive-triples"]
    assert triples.n == 1
    rates = [item for item in found if item.metric == "drawbench-win-rate" and item.interval]
    assert all(item.interval.high > item.interval.low for item in rates if item.interval)
    assert all(item.details["effective_votes"] >= 1 for item in rates)
