"""The byte-pair tokenizer: GLIDE's ids, a worked example, and round trips of any text."""

import gzip
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalkit.core.errors import WeightsError
from generators.tokenizer import (
    END_OF_TEXT,
    BytePairTokenizer,
    clip_tokenizer,
    learned_tokenizer,
    stated_tokenizer,
    tiny_tokenizer,
    train_merges,
    vocabulary,
)

CAPTIONS = ["a red circle above a blue square", "two red squares", "it's a large circle"]
MERGES = train_merges(CAPTIONS, 40)
TINY = BytePairTokenizer(vocabulary(MERGES), MERGES)


@pytest.fixture(scope="module")
def released(shared):
    data = shared / "data"
    return BytePairTokenizer.from_files(data / "encoder.json.gz", data / "vocab.bpe.gz")


def test_ids_and_masks_of_the_released_tokenizer(released, shared):
    expected = json.loads((shared / "parity" / "glide_tokens.json").read_text())
    assert released.num_tokens == expected["n_vocab"]
    assert released.end_id == expected["end_token"]
    for case in expected["cases"]:
        assert released.encode(case["prompt"]) == case["tokens"]
        padded = released.pad([case["prompt"]], 16)
        assert padded.ids[0].tolist() == case["padded16"]
        assert padded.mask[0].tolist() == case["mask16"]
        assert padded.truncated == (len(case["tokens"]) > 16,)


def test_merges_by_hand():
    """Merges "l o", "lo w", "e r": "lower" becomes low + er, " low" keeps its blank apart."""
    merges = [("l", "o"), ("lo", "w"), ("e", "r")]
    tokenizer = BytePairTokenizer(vocabulary(merges), merges)
    tokens = [tokenizer.decoder[i] for i in tokenizer.encode("LOWER low")]
    assert tokens == ["low", "er", "Ġ", "low"]


def test_learned_merges_take_the_most_frequent_pair_first():
    """ "aab" three times, "ab" twice: the pair (a, b) five times, (a, a) three times."""
    assert train_merges(["aab aab", "aab", "ab", "ab"], 1) == [("a", "b")]
    assert train_merges(["ab", "cd"], 1) == [("a", "b")]  # a tie goes by the alphabet
    assert train_merges(["a"], 5) == []


@given(st.text(max_size=60))
def test_decoding_gives_the_lower_case_text_back(text):
    assert TINY.decode(TINY.encode(text)) == text.lower().encode("utf-8", "replace").decode()


@given(st.text(alphabet="abcdr eq'\n3é", max_size=40), st.integers(1, 12))
def test_padding_has_one_length_and_a_mask_of_the_tokens(text, length):
    tokens = TINY.encode(text)
    padded = TINY.pad([text, ""], length)
    assert padded.ids.shape == padded.mask.shape == (2, length)
    assert padded.ids[0][padded.mask[0]].tolist() == tokens[:length]
    assert (padded.ids[~padded.mask] == TINY.end_id).all()
    assert padded.truncated == (len(tokens) > length, False)


def test_a_small_vocabulary_holds_bytes_merges_and_the_end():
    assert TINY.num_tokens == 256 + len(MERGES) + 1
    assert TINY.end_id == TINY.num_tokens - 1
    assert len(TINY.encode("a red circle")) < len("a red circle") / 2


def test_files_plain_and_compressed(tmp_path):
    encoder, merges = (
        json.dumps(vocabulary(MERGES)),
        "#version: 0.2\n" + "\n".join(f"{left} {right}" for left, right in MERGES),
    )
    (tmp_path / "encoder.json").write_text(encoder, encoding="utf-8")
    (tmp_path / "vocab.bpe").write_text(merges + "\n", encoding="utf-8")
    (tmp_path / "encoder.json.gz").write_bytes(gzip.compress(encoder.encode()))
    (tmp_path / "vocab.bpe.gz").write_bytes(gzip.compress(merges.encode()))
    for suffix in ("", ".gz"):
        tokenizer = BytePairTokenizer.from_files(
            tmp_path / f"encoder.json{suffix}", tmp_path / f"vocab.bpe{suffix}"
        )
        assert tokenizer.encode(CAPTIONS[0]) == TINY.encode(CAPTIONS[0])


def test_files_that_are_no_vocabulary(tmp_path):
    good, bad = tmp_path / "encoder.json", tmp_path / "vocab.bpe"
    good.write_text(json.dumps(vocabulary(MERGES)))
    for content in ("three words here", "\ufffd"):
        bad.write_text(content)
        with pytest.raises(WeightsError, match=r"vocab\.bpe"):
            BytePairTokenizer.from_files(good, bad)
    (tmp_path / "broken.gz").write_bytes(b"not gzip")
    with pytest.raises(WeightsError, match=r"broken\.gz"):
        BytePairTokenizer.from_files(tmp_path / "broken.gz", bad)
    with pytest.raises(WeightsError, match="The vocabulary has no"):
        BytePairTokenizer({"a": 0}, [])
    assert END_OF_TEXT in TINY.encoder


OF_ANY_KIND = [
    "a red circle",
    "Two dogs' bones, 12 cats & don't!!",
    "naïve café, 🙂, 日本語",
    "x2 3.14 #tag @me (yes)",
    "",
]


@pytest.mark.parametrize("caption", OF_ANY_KIND)
def test_clips_vocabulary_cuts_as_open_clip_does(caption: str) -> None:
    from open_clip import SimpleTokenizer

    ours = clip_tokenizer()
    assert ours.num_tokens == 49_408
    assert ours.encode(caption) == SimpleTokenizer().encode(caption)
    assert ours.end_id == 49_407
    assert ours.decode(ours.encode("a red circle")) == "a red circle"


def test_a_vocabulary_is_stated_in_one_text() -> None:
    """Weights keep the text; the tokenizer that it makes cuts and counts alike."""
    own = learned_tokenizer(train_merges(["a cup of coffee", "a cup of tea"] * 3, 30))
    assert own.stated not in ("", "clip", "gpt2")
    again = stated_tokenizer(own.stated)
    assert again.encoder == own.encoder
    assert again.encode("a cup of coffee") == own.encode("a cup of coffee")
    assert stated_tokenizer("") is tiny_tokenizer()
    assert stated_tokenizer("clip") is clip_tokenizer()


@pytest.mark.parametrize("stated", ["[", "3", '["a"]', "gpt3"])
def test_a_damaged_statement_is_refused(stated: str) -> None:
    with pytest.raises(WeightsError, match="no valid vocabulary"):
        stated_tokenizer(stated)
