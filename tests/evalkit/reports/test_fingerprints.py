"""Records that were not measured alike never stand in one column without a mark."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from evalkit.reports.fingerprints import comparability, entries, flatten, subject_differences
from tests.evalkit.reports.examples import EXTRACTOR, MEASURING, QUICK, make_record


def test_models_measured_alike_carry_no_mark() -> None:
    making = [{"model": "a", "guidance": 1.5, "weights_sha256": "11"}, {"model": "b", "steps": 25}]
    records = [make_record(subject=made["model"], fingerprint=MEASURING | made) for made in making]
    found = comparability(records)
    assert (dict(found.marks), found.notes) == ({}, ())


def test_another_crop_is_marked_and_explained() -> None:
    records = [
        make_record(subject="a"),
        make_record(subject="b", fingerprint=MEASURING | {"crop": "squash"}),
        make_record(subject="c"),
    ]
    found = comparability(records)
    assert dict(found.marks) == {0: "a", 1: "b", 2: "a"}
    assert found.notes == (
        "CLIP score: a and b are not comparable: crop is center (a), squash (b)",
    )


def test_an_entry_that_only_one_record_has_is_a_difference() -> None:
    records = [
        make_record(subject="a"),
        make_record(subject="b", fingerprint=MEASURING | {"blur_sigma": 2}),
    ]
    assert "blur_sigma is not recorded (a), 2 (b)" in comparability(records).notes[0]


def test_another_n_is_marked() -> None:
    records = [make_record(subject="a"), make_record(subject="b", n=500)]
    assert "n is 1000 (a), 500 (b)" in comparability(records).notes[0]


def test_another_seed_is_marked_but_not_called_incomparable() -> None:
    records = [
        make_record(subject="a"),
        make_record(subject="b", fingerprint=MEASURING | {"seed": 1}),
    ]
    assert comparability(records).notes == (
        "CLIP score: a and b were measured differently: seed is 0 (a), 1 (b)",
    )


def test_one_model_at_two_guidance_scales_is_told_apart() -> None:
    records = [
        make_record(subject="a", fingerprint=MEASURING | {"guidance": {"base": scale}})
        for scale in (1.5, 3.0)
    ]
    found = comparability(records)
    assert dict(found.marks) == {0: "a", 1: "b"}
    assert "guidance.base is 1.5 (a), 3.0 (b)" in found.notes[0]


def test_distances_of_other_features_stand_in_other_columns() -> None:
    other = {"extractor": {"name": "dinov2"}}
    records = [
        make_record("fd", subject="a", fingerprint=MEASURING | EXTRACTOR),
        make_record("fd", subject="b", fingerprint=MEASURING | other),
    ]
    assert not comparability(records).marks


def test_a_record_without_a_value_needs_no_mark() -> None:
    failed = make_record(
        value=None, state="failed", reason="no weights", fingerprint={}, subject="b"
    )
    assert not comparability([make_record(subject="a"), failed]).marks


def test_more_kinds_than_letters() -> None:
    records = [
        make_record(subject=str(rank), fingerprint=MEASURING | {"crop": str(rank)})
        for rank in range(30)
    ]
    assert len(set(comparability(records).marks.values())) == 30


def test_entries_are_listed_once_with_those_they_hold_for() -> None:
    found = entries({"fid": {"crop": "center", "net": "x"}, "clip": {"crop": "center", "net": "y"}})
    assert [(entry.key, entry.value, entry.holders) for entry in found] == [
        ("crop", "center", ()),
        ("net", "x", ("fid",)),
        ("net", "y", ("clip",)),
    ]


def test_differences_of_subjects_leave_out_what_always_differs() -> None:
    found = subject_differences(
        [
            {"model": "a", "sampler": "ddim", "crop": "center", "command": "one", "steps": 25},
            {"model": "b", "sampler": "ddpm", "crop": "squash", "command": "two", "steps": 25},
        ]
    )
    assert found == {"sampler": ["ddim", "ddpm"]}


KEYS = st.text(alphabet="ab.\\", max_size=3)
LEAVES = st.none() | st.booleans() | st.integers() | st.just([]) | st.just({})
NESTED = st.dictionaries(KEYS, LEAVES | st.dictionaries(KEYS, LEAVES, max_size=3), max_size=4)


@QUICK
@given(NESTED)
def test_flattening_loses_no_entry_and_merges_none(nested: dict[str, object]) -> None:
    def leaves(value: object) -> int:
        return sum(map(leaves, value.values())) if isinstance(value, dict) and value else 1

    assert len(flatten(nested)) == sum(map(leaves, nested.values()))


def test_dots_in_keys_do_not_meet_nested_ones() -> None:
    flat = flatten({"a.b": 1, "a": {"b": 2}, "empty": {}, "list": [1, {"x": "é"}]})
    assert flat == {
        "a\\.b": 1,
        "a.b": 2,
        "empty": "{}",
        "list": json.dumps([1, {"x": "é"}], ensure_ascii=False),
    }


def test_what_a_model_is_like_makes_no_footnote() -> None:
    """Captions of a distance that needs none, the precision of sampling, matches and copies."""
    own = [
        {"sampling_precision": "float32", "sample_captions_sha256": "11", "matched_ids": 7},
        {"sampling_precision": "bf16", "copies": {"repeated_samples": 2}},
    ]
    records = [
        make_record("kid", subject=name, fingerprint=MEASURING | made)
        for name, made in zip("ab", own, strict=True)
    ]
    assert comparability(records).notes == ()
    captions = [{"captions_sha256": "11"}, {"captions_sha256": "22"}]
    records = [
        make_record("clip-score", subject=name, fingerprint=MEASURING | made)
        for name, made in zip("ab", captions, strict=True)
    ]
    assert "captions_sha256 is 11… (a), 22… (b)" in comparability(records).notes[0]


def test_differences_of_other_pairs_may_have_another_n() -> None:
    records = [
        make_record("kid-full-difference", subject=subject, n=n)
        for subject, n in (("a - b", 100), ("a - c", 60))
    ]
    assert comparability(records).notes == ()
