"""The page is complete, self-contained and treats all text as text."""

from __future__ import annotations

import base64
import io
import re
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from evalkit.protocols.published import published_values
from evalkit.reports.html import (
    ComparisonReport,
    Gallery,
    ReportSample,
    RunReport,
    render,
    render_comparison,
    write_comparison_html,
    write_html,
)
from evalkit.reports.thumbnails import MOST_EDGE_PX, thumbnail
from tests.evalkit.reports.examples import MEASURING, NASTY_PROMPTS, make_record

MOST_BYTES = 3 * 1024 * 1024
"""A page is to be mailed; "a few MB" is the promise."""
VOID = frozenset({"meta", "link", "img", "br", "hr", "input", "rect", "line", "circle"})


class Page(HTMLParser):
    """Tags, attributes and visible text of a page; fails where tags don't nest."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: Counter[str] = Counter()
        self.attributes: list[tuple[str, str, str]] = []
        self.texts: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())

    def values(self, attribute: str) -> list[str]:
        return [value for _, name, value in self.attributes if name == attribute]


@pytest.fixture(scope="module")
def html(report: RunReport) -> str:
    return render(report)


@pytest.fixture(scope="module")
def page(html: str) -> Page:
    return Page(html)


@pytest.fixture(scope="module")
def compared(comparison: ComparisonReport) -> Page:
    return Page(render_comparison(comparison))


def test_every_record_is_on_the_page(report: RunReport, page: Page) -> None:
    rows = [value for tag, name, value in page.attributes if (tag, name) == ("td", "data-label")]
    assert rows.count("Value") == len(report.records)
    for record in report.records:
        assert record.reason in page.text
        if record.interval:
            assert record.interval.method in page.text


def test_states_are_shown_with_their_reasons(page: Page) -> None:
    assert "not applicable" in page.text
    assert "needs 100 distinct captions, the data set has 64" in page.text
    assert "failed" in page.text
    assert "neither cached nor downloadable" in page.text


def test_headline_numbers_say_all_that_a_number_must(page: Page) -> None:
    for wanted in (
        "3.81", "[3.57, 4.06] 95 % interval", "n = 1,000", "lower is better", "higher is better",
        "FD (shapes-clip)", "not an FID", "trained on this data set",
    ):  # fmt: skip
        assert wanted in page.text


def test_the_fingerprint_is_complete(report: RunReport, page: Page) -> None:
    for wanted in ("3fc1" * 16, "90be" * 16, "77aa" * 16, "51d0" * 16, "steps.upsampler"):
        assert wanted in page.text
    assert (
        "evalkit fid --model glide:tiny --data shapes --n 1000 --out 'runs/my glide'" in page.text
    )


def test_prompts_with_markup_stay_text(html: str, page: Page) -> None:
    assert page.tags["script"] == 0
    assert "<script" not in html
    assert not [name for _, name, _ in page.attributes if name.startswith("on")]
    for prompt in NASTY_PROMPTS:
        assert " ".join(prompt.split()) in page.text
        assert f"Generated image: {prompt}" in page.values("alt")


def test_text_everywhere_is_escaped(scenes: list[Path]) -> None:
    evil = "\"><script>alert(1)</script>'&"
    record = make_record(
        f"m{evil}", 1.0, subject=evil, unit=evil, reason=evil, half_width=0.1,
        details={evil: evil, "mark": evil, "histogram": evil, "p_value": evil},
        fingerprint={evil: evil, "extractor": evil, "model": evil, "training_relation": evil,
                     "command": evil, "created": evil, "crop": evil, "reranked": evil},
    )  # fmt: skip
    other = replace(record, fingerprint={**record.fingerprint, "crop": "other" + evil})
    failed = make_record(value=None, state="failed", reason=evil, subject=evil)
    sample = ReportSample(
        image=scenes[0], caption=evil, caption_id=evil, score=1.0, score_name=evil, notes=(evil,),
        category=evil, subject=evil, reference=scenes[1],
    )  # fmt: skip
    samples = [sample, replace(sample, status=evil), replace(sample, image=Path(evil))]
    galleries = [Gallery(title=evil, explanation=evil, samples=samples, layout=layout)
                 for layout in ("grid", "by_caption")]  # fmt: skip
    shared = {
        "title": evil, "question": evil, "records": [record, other, failed],
        "galleries": galleries, "fingerprint": {evil: evil}, "warnings": [evil],
        "timings": {evil: 1.0}, "made_with": {evil: evil},
    }  # fmt: skip
    difference = replace(record, metric="fd-difference", subject=f"{evil} - {evil}")
    shared_records = [record, other, failed, difference]
    pages = [
        render(RunReport(**shared)),
        render_comparison(
            ComparisonReport(subjects=[evil], **(shared | {"records": shared_records}))
        ),
    ]
    for text in pages:
        assert Page(text).tags["script"] == 0
        assert "<script" not in text


def test_nothing_is_fetched(page: Page, compared: Page, html: str) -> None:
    for found in (page, compared):
        for tag, name, value in found.attributes:
            if name in ("src", "href", "srcset", "data", "action", "poster", "background"):
                assert value.startswith(("data:", "#")), (tag, name, value[:80])
    style = html[html.index("<style>") : html.index("</style>")]
    assert not re.search(r"url\(|@import|https?:", style)
    assert "default-src 'none'" in html


def test_every_image_has_an_alternative_and_a_size(page: Page) -> None:
    images = page.tags["img"]
    assert images > 40
    for attribute in ("alt", "width", "height"):
        values = [v for tag, name, v in page.attributes if (tag, name) == ("img", attribute)]
        assert len(values) == images
        assert all(values)


def test_scores_of_a_gallery_share_their_decimals(page: Page) -> None:
    assert "CLIP score 42.13" in page.text
    assert "CLIP score 9.87 " in page.text
    assert "influence 0.04120" in page.text
    assert "influence 0.01030" in page.text


def test_samples_without_an_image_say_why(page: Page) -> None:
    assert "refused" in page.text
    assert "the service refused: content policy" in page.text
    assert "no image" in page.text
    assert "truncated.png" in page.text


def test_paths_of_this_machine_stay_out(report: RunReport, html: str) -> None:
    image = report.galleries[0].samples[0].image
    assert str(image.parent) not in html


def test_a_missing_image_does_not_stop_the_report(tmp_path: Path) -> None:
    sample = ReportSample(image=tmp_path / "gone.png", caption="gone")
    gallery = Gallery(title="Samples", explanation="", samples=[sample])
    assert (
        "gone.png"
        in Page(render(RunReport(title="t", question="q", records=[], galleries=[gallery]))).text
    )


def test_the_whole_page_is_small(html: str) -> None:
    assert len(html.encode()) < MOST_BYTES


def test_a_hundred_photographs_stay_small(tmp_path: Path) -> None:
    # Smooth colour with grain compresses about as a photograph does.
    rng = np.random.default_rng(0)
    ramp = np.linspace(40, 200, 512)[:, None, None] + rng.normal(0, 6, (512, 512, 3))
    path = tmp_path / "photo.png"
    Image.fromarray(np.clip(ramp, 0, 255).astype(np.uint8)).save(path)
    shown = thumbnail(path)
    assert max(shown.width, shown.height) == MOST_EDGE_PX
    assert shown.uri.startswith("data:image/jpeg;base64,")
    assert 60 * len(shown.uri) < 2 * MOST_BYTES


def test_small_images_are_embedded_without_loss(scenes: list[Path]) -> None:
    shown = thumbnail(scenes[0])
    assert shown.is_pixel_art
    encoded = shown.uri.removeprefix("data:image/png;base64,")
    with Image.open(io.BytesIO(base64.b64decode(encoded))) as again, Image.open(scenes[0]) as first:
        assert np.array_equal(np.asarray(again.convert("RGB")), np.asarray(first.convert("RGB")))


def test_the_pages_keep_their_outline(page: Page, compared: Page) -> None:
    for found in (page, compared):
        assert found.tags["h1"] == 1
        assert found.tags["main"] == 1
        ids = found.values("id")
        assert len(ids) == len(set(ids))
        assert set(found.values("aria-labelledby")) <= set(ids)
        assert not [v for t, n, v in found.attributes if (t, n) == ("html", "lang") and not v]


def test_the_comparison_has_a_row_for_each_model(compared: Page) -> None:
    for wanted in (
        "glide:tiny", "unclip:tiny", "imagen:tiny", "dalle:tiny", "30.44", "[3.05, 3.65]",
        "not measured", "too few images", "re-ranked", "share of images",
    ):  # fmt: skip
        assert wanted in compared.text
    assert "CLIP score: a and b are not comparable:" in compared.text
    assert "crop is center (a), squash (b)" in compared.text


def test_many_metrics_of_few_models_stand_in_rows(comparison: ComparisonReport) -> None:
    more = [
        replace(record, metric=f"metric-{number}")
        for number in range(4)
        for record in comparison.records
        if record.metric == "fd"
    ]
    tall = Page(render_comparison(replace(comparison, records=[*comparison.records, *more])))
    labels = Counter(v for t, n, v in tall.attributes if (t, n) == ("td", "data-label"))
    for model in ("glide:tiny", "unclip:tiny", "imagen:tiny", "dalle:tiny"):
        assert labels[model] == 9, "a cell for each metric, measured or not"
    assert labels["Metric 0"] == 0
    for wanted in ("Metric 3", "not measured", "too few images", "[3.05, 3.65]"):
        assert wanted in tall.text


def test_paired_differences_say_what_they_show(compared: Page) -> None:
    for row in (
        "FD (shapes-clip) −0.61 [−0.97, −0.25] 95 % 500 < 0.001 glide:tiny",
        "FD (shapes-clip) 0.46 [0.10, 0.82] 95 % 500 0.021 imagen:tiny",
        "FD (shapes-clip) 0.15 [−0.21, 0.51] 95 % 500 0.41 none detected",
    ):
        assert row in compared.text
    assert compared.text.count("None detected: the interval contains 0") == 1


def test_the_best_is_bold_only_where_numbers_compare() -> None:
    def bold(*records: object) -> int:
        made = ComparisonReport(title="t", question="q", subjects=("a", "b"), records=records)
        return Page(render_comparison(made)).values("class").count("cell best")

    first, second = (
        make_record(value=value, subject=subject, half_width=0.5)
        for value, subject in ((30.0, "a"), (31.0, "b"))
    )
    without = make_record(value=32.0, subject="c", reason="no interval: one draw")
    otherwise = replace(second, fingerprint={**MEASURING, "crop": "squash"})
    undirected = [replace(record, direction="none") for record in (first, second)]
    assert bold(first, second) == 1
    assert bold(first, otherwise) == 0
    assert bold(*undirected) == 0
    assert bold(first) == 0
    assert bold(first, second, without) == 0, "a value without an interval may be no better"


def test_no_value_without_an_interval_is_bold(compared: Page, comparison: ComparisonReport) -> None:
    with_interval = [r for r in comparison.records if r.value is not None and r.interval]
    favouring = 2  # of the differences' own table
    assert compared.values("class").count("num strong") == len(with_interval) + favouring


def test_badges_and_sentences_stand_once(compared: Page, comparison: ComparisonReport) -> None:
    """In the table of models and in that of records; the badges' meanings list them once more."""
    assert compared.text.count("not an FID") == 3
    assert compared.text.count("re-ranked") == 3
    method = comparison.records[0].interval
    assert method is not None
    for text in ("trained on this data set", f"{method.method}.", "features of shapes-clip"):
        assert compared.text.count(text) <= 3, text


def test_published_values_have_a_table_of_their_own(comparison: ComparisonReport) -> None:
    published = published_values("coco", ["fid"], protocol="imagen-30k")
    assert published[0].protocol == "imagen-30k"
    page = render_comparison(replace(comparison, published=published))
    start, end = page.index('id="published"'), page.index('id="settings"')
    for one in published:
        assert f"{one.stated.value:g}" in page[start:end]
        assert one.protocol in page[start:end]
        assert one.stated.model not in page[:start] + page[end:].replace("dalle", "")
    assert "published" not in render_comparison(comparison).split("<body>")[1]


def test_galleries_by_caption_show_the_caption_once(comparison: ComparisonReport) -> None:
    text = Page(render_comparison(comparison)).text
    caption = comparison.galleries[0].samples[0].caption
    assert text.count(caption) == 1


def test_headline_metrics_can_be_named(report: RunReport) -> None:
    chosen = Page(render(replace(report, headline=("precision", "fid"))))
    assert chosen.tags["article"] == 2


def test_a_report_of_nothing_is_a_page() -> None:
    assert "No records." in Page(render(RunReport(title="t", question="q", records=[]))).text
    empty = ComparisonReport(title="t", question="q", subjects=(), records=[])
    assert "No records." in Page(render_comparison(empty)).text


def test_a_model_of_unknown_training_is_called_so() -> None:
    made = RunReport(title="t", question="q", records=[make_record(fingerprint={})])
    assert "unknown whether zero-shot" in Page(render(made)).text


def test_files_are_written_whole(
    report: RunReport, comparison: ComparisonReport, tmp_path: Path
) -> None:
    write_html(tmp_path / "new" / "report.html", report)
    write_comparison_html(tmp_path / "new" / "compare.html", comparison)
    names = sorted(path.name for path in (tmp_path / "new").iterdir())
    assert names == ["compare.html", "report.html"]
    assert (tmp_path / "new" / "report.html").read_text("utf-8").endswith("</html>\n")


def test_text_that_no_encoding_holds_does_not_break_the_page(tmp_path: Path) -> None:
    write_html(tmp_path / "report.html", RunReport(title="\ud800", question="q", records=[]))
    assert "<title>?</title>" in (tmp_path / "report.html").read_text("utf-8")
