"""Honest names: what a number may be called, and what must stand beside it."""

from __future__ import annotations

import pytest

from evalkit.reports import wording
from tests.evalkit.reports.examples import EXTRACTOR, MAKING, MEASURING, make_record


@pytest.mark.parametrize(
    ("metric", "fingerprint", "label"),
    [
        ("fid", {}, "FID"),
        ("fid-infinity", {}, "FID∞"),
        ("fd", EXTRACTOR, "FD (shapes-clip)"),
        ("fd-infinity", EXTRACTOR, "FD∞ (shapes-clip)"),
        ("fd", {"extractor": "dinov2"}, "FD (dinov2)"),
        ("fd", {}, "FD (features not named)"),
        ("FD (my net)", {}, "FD (my net)"),
        ("fd-difference", EXTRACTOR, "FD (shapes-clip), difference"),
        ("clip_score", {}, "CLIP score"),
        ("lab/sharpness-at-2", {}, "Lab/sharpness at 2"),
        ("kid-full", EXTRACTOR, "KID, full set (shapes-clip)"),
        ("kid", {"extractor": "inception"}, "KID"),
        ("precision-k3", EXTRACTOR, "Precision k3 (shapes-clip)"),
        ("precision", EXTRACTOR, "Precision"),
        ("clip-fd-infinity", {}, "CLIP-FD∞"),
        ("composition-pairs-difference", {}, "Prompts found, difference"),
        ("prdc", {}, "Prdc"),
    ],
)
def test_labels(metric: str, fingerprint: dict[str, object], label: str) -> None:
    assert wording.label(make_record(metric, fingerprint=fingerprint)) == label


@pytest.mark.parametrize("metric", ["fd", "fd-infinity", "fd-difference", "FD (my net)"])
def test_only_inception_makes_an_fid(metric: str) -> None:
    texts = [badge.text for badge in wording.badges(make_record(metric, fingerprint=EXTRACTOR))]
    assert "not an FID" in texts
    assert not wording.badges(make_record("fid", fingerprint={}))


def test_other_inception_weights_are_marked() -> None:
    other = {"extractor": {"name": "inception", "weights_sha256": "00" * 32}}
    original = {"extractor": {"name": "inception", "weights_sha256": "6726825d" + "0" * 56}}
    noted = {"extractor": {"name": "inception", "weights_note": "weights not the 2015 ones"}}
    for fingerprint, expected in ((other, True), (noted, True), (original, False)):
        texts = [
            badge.text for badge in wording.badges(make_record("fid", fingerprint=fingerprint))
        ]
        assert ("weights not the 2015 ones" in texts) is expected


def test_the_models_own_weights_are_not_taken_for_the_extractors() -> None:
    fingerprint = {"weights_sha256": "00" * 32, "extractor": {"name": "inception"}}
    assert not wording.badges(make_record("fid", fingerprint=fingerprint))


@pytest.mark.parametrize(
    ("fingerprint", "badge"),
    [
        ({"training_relation": "zero-shot"}, "zero-shot"),
        ({"training_relation": "trained on this data set"}, "trained on this data set"),
        ({"training_relation": "unknown"}, "unknown whether zero-shot"),
        ({"training_relation": "who knows"}, "unknown whether zero-shot"),
        ({"reranked": {"by": "clip", "candidates": 16}}, "re-ranked"),
        ({"simulated": True}, "simulated raters"),
    ],
)
def test_what_is_known_of_the_model(fingerprint: dict[str, object], badge: str) -> None:
    assert [found.text for found in wording.subject_badges(fingerprint)] == [badge]


def test_a_model_that_was_not_reranked_has_no_badge() -> None:
    assert wording.subject_badges({"reranked": False}) == []


def test_the_mark_of_a_record_is_shown() -> None:
    record = make_record("fid", details={"mark": "n <= d"}, reason="no interval: n <= d")
    assert "n <= d" in [badge.text for badge in wording.badges(record)]


def test_the_protocol_in_a_sentence() -> None:
    assert wording.protocol_sentence(MEASURING | MAKING | EXTRACTOR) == (
        "Images by glide:tiny for 1,000 captions of shapes (validation), sampler ddim, "
        "steps (base 25, upsampler 10), guidance (base 1.5), seed 0. "
        "Compared with the validation images of shapes (1,000 images), centre-cropped, at 64 px "
        "(bicubic filter). Features of shapes-clip, in float32."
    )


@pytest.mark.parametrize(
    ("conditioning", "asked"),
    [
        ("text", "42 captions of shapes"),
        ("class", "42 class labels, in the same proportions as in shapes"),
        ("none", "42 requests without a caption, to be compared with images from shapes"),
    ],
)
def test_the_protocol_says_what_a_model_was_asked_with(conditioning: str, asked: str) -> None:
    known = {"model": "m", "dataset": "shapes", "captions": 42, "conditioning": conditioning}
    assert wording.protocol_sentence(known) == f"Images by m for {asked}."


@pytest.mark.parametrize(("scale", "said"), [(12.0, ["CLIP guidance 12"]), (0.0, [])])
def test_guidance_by_a_clip_is_named(scale: float, said: list[str]) -> None:
    options = {"base": {"threshold": "static", "clip_guidance": scale}, "upsampler": {}}
    settings = {"model": "glide:tiny", "guidance": 3.0, "seed": 0, "options": options}
    phrase = wording.sampled_phrase(settings)
    assert phrase.split(", ")[1:] == ["guidance 3", *said, "seed 0"]


def test_the_protocol_says_only_what_is_known() -> None:
    assert wording.protocol_sentence({}) == ""
    assert wording.protocol_sentence({"model": "m", "steps": 25}) == "Images by m, 25 steps."


@pytest.mark.parametrize(
    ("metric", "fingerprint", "summary"),
    [
        ("fid", {}, "Fréchet distance of Inception-2015 features"),
        ("fd", EXTRACTOR, "Fréchet distance of shapes-clip features"),
        ("fd", {}, "Fréchet distance of other features, named after them"),
        (
            "fd-infinity",
            EXTRACTOR,
            "Fréchet distance of shapes-clip features, corrected for its upward bias at finite n",
        ),
        ("FD (my net)", {}, "Fréchet distance of other features, named after them"),
        ("CLIP_score", EXTRACTOR, "Cosine of image and caption in CLIP space, by shapes-clip"),
        (
            "kid-full",
            EXTRACTOR,
            "Squared MMD of Inception features, cubic kernel, by shapes-clip, over all pairs of "
            "images",
        ),
        ("precision-k3", EXTRACTOR, "Share of samples inside a real image's neighbourhood"),
        ("composition-objects", {}, "Share of prompted objects that are in the image"),
        ("prdc", {}, "Precision, recall, density and coverage of Inception features"),
        ("lab/unheard-of", {}, ""),
    ],
)
def test_summaries(metric: str, fingerprint: dict[str, object], summary: str) -> None:
    assert wording.summary(make_record(metric, fingerprint=fingerprint)) == summary


def test_the_source_of_a_part_is_that_of_the_whole() -> None:
    assert wording.source(make_record("fid-infinity")) == wording.source(make_record("fid"))
    assert wording.source(make_record("composition-pairs"))
    assert wording.source(make_record("recall-k5")).startswith("Kynkäänniemi")
    assert wording.source(make_record("lab/unheard-of")) == ""


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ([], "Protocol imagen-30k."),
        (["crop"], "Protocol imagen-30k, except for crop."),
        (
            ["crop", "size_px", "filter"],
            "Protocol imagen-30k, except for crop, size_px and filter.",
        ),
    ],
)
def test_the_protocol_and_what_overrode_it_are_told(overrides: list[str], said: str) -> None:
    marks = {"protocol": "imagen-30k", "protocol_overrides": overrides}
    assert wording.protocol_sentence(marks) == said


CLIP = {"clip_model": "clip:ViT-B-32-quickgelu:openai"}
PROTOCOL = {"protocol": "imagen-30k", "protocol_overrides": ["captions.count"]}


@pytest.mark.parametrize("metric", ["clip-score", "r-precision", "clip-score-difference"])
def test_a_score_by_another_clip_than_the_protocols_is_named_after_it(metric: str) -> None:
    def label(**fingerprint: object) -> str:
        return wording.label(make_record(metric, fingerprint=fingerprint))

    overridden = {**PROTOCOL, "protocol_overrides": ["captions.count", "clip.model"]}
    for named in (CLIP, {**CLIP, **overridden}):
        assert "(ViT-B-32-quickgelu:openai)" in label(**named)
    for plain in ({}, {**CLIP, **PROTOCOL}):
        assert "(" not in label(**plain)


def test_one_copy_and_several() -> None:
    for count, text in ((1, "1 sample is a copy of another"), (1200, "1,200 samples are copies")):
        record = make_record(fingerprint={"copies": {"repeated_samples": count}})
        assert wording.marks_text(record).startswith(text)
