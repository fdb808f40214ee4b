"""The frozen text encoder equals transformers' own T5; spans are cut so that nothing is lost."""

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, T5Config
from transformers.models.t5.modeling_t5 import T5EncoderModel, T5ForConditionalGeneration

from evalkit.core.errors import MissingWeightsError
from generators.imagen.text import NUM_SENTINELS, TINY_LENGTH, FrozenT5, t5_config, tiny_tokens
from generators.imagen.training import corrupt_spans
from generators.recipes.recipe import load_recipe
from generators.tokenizer import tiny_tokenizer

CAPTIONS = ["a red circle", "", "a small blue square left of a red circle", "a red circle"]
ROUNDING = 1e-5  # float32, padded to another length


@pytest.fixture(scope="module")
def whole():
    """A whole T5 with random weights, of the tiny size."""
    torch.manual_seed(0)
    return T5ForConditionalGeneration(t5_config(load_recipe("imagen-tiny-t5").model)).eval()


@pytest.fixture(scope="module")
def frozen(whole):
    encoder = T5EncoderModel(whole.config)
    encoder.get_encoder().load_state_dict(whole.get_encoder().state_dict())
    return FrozenT5(encoder, tiny_tokens, name="t5", sha256="")


def test_states_are_those_of_transformers(whole, frozen):
    """Each caption alone and without padding through the whole model's own encoder."""
    read = frozen.read(CAPTIONS)
    assert read.states.shape == (4, TINY_LENGTH, 128)
    for caption, states in zip(CAPTIONS, read.states, strict=True):
        ids = [*tiny_tokenizer().encode(caption), tiny_tokenizer().end_id]
        with torch.no_grad():
            expected = whole.get_encoder()(input_ids=torch.tensor([ids])).last_hidden_state[0]
        torch.testing.assert_close(states[: len(ids)], expected, rtol=ROUNDING, atol=ROUNDING)
        assert not states[len(ids) :].any(), "padding is zero"
    assert torch.equal(read.states[0], read.states[3])
    assert not any(parameter.requires_grad for parameter in frozen.encoder.parameters())


def test_a_long_caption_is_cut_and_says_so(frozen):
    assert frozen.read(["a red circle", "red " * 50]).truncated == (False, True)


def test_a_published_encoder_is_read_from_its_folder(tmp_path: Path):
    """The hub's format, written by transformers itself, at a size that a test can afford."""
    words = ["<pad>", "</s>", "<unk>", "a", "red", "circle"]
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    ).save_pretrained(tmp_path)
    config = T5Config(
        vocab_size=6, d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2,
        feed_forward_proj="gated-gelu",
    )  # fmt: skip
    original = T5EncoderModel(config).eval()
    original.save_pretrained(tmp_path)
    frozen = FrozenT5.from_pretrained(str(tmp_path), length=4)
    read = frozen.read(["a red circle", "red", "a red red red circle"])
    with torch.no_grad():
        expected = original(input_ids=torch.tensor([[3, 4, 5]])).last_hidden_state[0]
    torch.testing.assert_close(read.states[0, :3], expected, rtol=ROUNDING, atol=ROUNDING)
    assert not read.states[1, 1:].any()
    assert read.truncated == (False, False, True)


def test_an_encoder_that_is_nowhere_is_an_error_of_one_line():
    with pytest.raises(MissingWeightsError, match="no/such-t5 not found in the cache") as caught:
        FrozenT5.from_pretrained("no/such-t5")
    assert "\n" not in str(caught.value)


def test_networks_beside_an_encoder_that_is_not_trained_yet_say_so(tmp_path: Path):
    with pytest.raises(MissingWeightsError, match=r"evalkit train imagen-tiny-t5.*text_encoder"):
        FrozenT5.from_zoo(tmp_path / "nowhere.safetensors")


@given(
    ids=st.lists(st.integers(0, 400), min_size=2, max_size=40),
    density=st.floats(0.05, 0.9),
    span=st.floats(1, 4),
    seed=st.integers(0, 1000),
)
def test_the_label_fills_the_gaps_of_the_corrupted_caption(ids, density, span, seed):
    corrupted, label = corrupt_spans(
        ids,
        torch.Generator().manual_seed(seed),
        first_sentinel=1000,
        noise_density=density,
        mean_span=span,
    )
    fill: dict[int, list[int]] = {}
    for token in label:
        if token >= 1000:
            current = fill.setdefault(token, [])
        else:
            current.append(token)
    assert all(fill.values()), "no span is empty"
    assert len(fill) <= NUM_SENTINELS
    restored = [t for token in corrupted for t in (fill[token] if token >= 1000 else [token])]
    assert restored == ids
    cut = sum(map(len, fill.values()))
    assert cut == min(max(1, round(len(ids) * density)), len(ids) - 1)


def test_spans_differ_from_draw_to_draw():
    draws = {
        tuple(
            corrupt_spans(
                list(range(12)),
                torch.Generator().manual_seed(seed),
                first_sentinel=1000,
                noise_density=0.3,
                mean_span=2,
            )[0]
        )
        for seed in range(20)
    }
    assert len(draws) > 5
