"""The transformer: the cache changes nothing, every mask and word matters, sampling is exact."""

import math

import pytest
import torch
import torch.nn.functional as F

from generators.dalle.dvae import DVAE, DVAEConfig
from generators.dalle.model import DalleConfig, DalleTransformer, dalle_loss
from generators.dalle.pipeline import choose, paint, sample_codes, text_ids
from generators.diffusion.noise import image_rngs
from generators.errors import ArchitectureError
from generators.tokenizer import tiny_tokenizer

CACHE = 1e-5  # relative: the same float32 sums, over states that were kept
CONFIG = DalleConfig(
    text_vocab=10,
    text_length=5,
    image_vocab=7,
    grid_size=4,
    width=16,
    layers=5,
    heads=2,
    kernel_size=3,
)


@pytest.fixture
def network(randomised):
    return randomised(DalleTransformer(CONFIG))


@pytest.fixture
def stream():
    generator = torch.Generator().manual_seed(1)
    text = torch.randint(10, (3, 5), generator=generator)
    return text, torch.randint(7, (3, 16), generator=generator)


@torch.no_grad()
def test_logits_from_the_cache_equal_those_of_the_whole_stream(network, stream, relative_error):
    text, image = stream
    whole = network(text, image)[1]
    logits, cache = network.begin(text)
    found = [logits]
    for place in range(15):
        found.append(network.advance(image[:, place], cache))
    assert cache.length == CONFIG.num_states == 21
    assert relative_error(torch.stack(found, dim=1), whole) < CACHE


@torch.no_grad()
def test_sampling_with_and_without_the_cache_draws_the_same(network, stream):
    text = stream[0]

    def codes(**options):
        return sample_codes(network, text, image_rngs([1, 2, 3]), **options)

    assert torch.equal(codes(), codes(cached=False))
    assert not torch.equal(codes(), codes(temperature=0.1))
    assert not torch.equal(codes(), codes(top_k=2))
    assert torch.equal(codes(temperature=0), codes(top_k=1))
    others = sample_codes(network, text, image_rngs([4, 5, 6]))
    assert not torch.equal(codes(), others)


@torch.no_grad()
def test_guidance_moves_logits_away_from_those_of_an_empty_caption(network, stream):
    """The likeliest codes, by hand from whole streams."""
    text, scale = stream[0], 3.0
    empty = text_ids(tiny_tokenizer(), [""], 5)[0] - tiny_tokenizer().num_tokens + 10
    by_hand = torch.empty(3, 0, dtype=torch.long)
    for _ in range(16):
        with_caption = network(text, by_hand)[1][:, -1]
        without = network(empty.expand(3, -1), by_hand)[1][:, -1]
        logits = without + scale * (with_caption - without)
        by_hand = torch.cat([by_hand, logits.argmax(dim=1, keepdim=True)], dim=1)

    def codes(scale, **options):
        return sample_codes(
            network, text, image_rngs([1, 2, 3]), temperature=0, guidance_scale=scale, **options
        )

    assert torch.equal(codes(scale), by_hand)
    assert torch.equal(codes(scale, cached=False), by_hand)
    assert not torch.equal(codes(1.0), by_hand)
    same = codes(0.0)  # no caption is read at all
    assert torch.equal(same, same[:1].expand(3, -1))


@torch.no_grad()
def test_the_batch_moves_neither_logits_nor_draws(network, stream):
    text, image = stream
    together = network(text, image)[1]
    codes = sample_codes(network, text, image_rngs([7, 8, 9]))
    for row in range(3):
        alone = network(text[row : row + 1], image[row : row + 1])[1][0]
        torch.testing.assert_close(alone, together[row], rtol=1e-5, atol=1e-5)
        one = sample_codes(network, text[row : row + 1], image_rngs([7 + row]))
        assert torch.equal(one[0], codes[row])


@torch.no_grad()
def test_a_layer_sees_what_its_pattern_shows(network, stream):
    """Layers are row, column, row, row, convolution; alone, each reacts to its own neighbours.

    What the state of code 9 (row 2, column 1 of 4 x 4) says depends on code j only where the one
    layer lets it look at j.
    """
    text, image = stream
    seen = {"row": {5, 6, 7, 8, 9}, "column": {1, 5, 9}, "convolution": {4, 5, 6, 8, 9}}
    blocks = network.blocks
    for layer, pattern in enumerate(network.patterns):
        network.blocks = torch.nn.ModuleList([blocks[layer]])
        patterns, network.patterns = network.patterns, (pattern,)
        network.masks = network._masks()
        before = network(text, image)[1][:, 10]
        reacting = set()
        for j in range(15):
            changed = image.clone()
            changed[:, j] = (changed[:, j] + 1) % 7
            if not torch.equal(network(text, changed)[1][:, 10], before):
                reacting.add(j)
        assert reacting == seen[pattern], pattern
        network.blocks, network.patterns = blocks, patterns


@torch.no_grad()
def test_every_word_of_the_caption_is_read(network, stream):
    text, image = stream
    text_logits, image_logits = network(text, image)
    for position in range(5):
        changed = text.clone()
        changed[:, position] = (changed[:, position] + 1) % 10
        other_text, other_image = network(changed, image)
        assert not torch.allclose(other_image[:, 0], image_logits[:, 0], atol=1e-6)
        torch.testing.assert_close(
            other_text[:, : position + 1], text_logits[:, : position + 1], rtol=1e-5, atol=1e-5
        )


@torch.no_grad()
def test_the_captions_states_are_those_that_the_stream_has(network, stream):
    """Behind 2 of 5 layers, whatever the image; nothing of the start token."""
    text, image = stream
    inside = []
    network.blocks[1].register_forward_hook(lambda block, x, out: inside.append(out))
    network(text, image)
    expected = inside[0][:, 1:6].transpose(1, 2)
    torch.testing.assert_close(network.text_states(text), expected, rtol=1e-5, atol=1e-6)


@torch.no_grad()
def test_the_last_code_is_written_and_never_read(network, stream):
    text, image = stream
    changed = image.clone()
    changed[:, -1] = (changed[:, -1] + 1) % 7
    assert torch.equal(network(text, image)[1], network(text, changed)[1])
    assert network(text, image)[1].shape == (3, 16, 7)
    assert network(text, image[:, :3])[1].shape == (3, 4, 7)
    assert network(text, image[:, :0])[1].shape == (3, 1, 7)


def test_gradients_reach_every_parameter(network, stream):
    text, image = stream
    text = torch.cat([text[:, :3], torch.tensor([[13, 14]] * 3)], dim=1)
    network.train()
    dalle_loss(*network(text, image), text, image).backward()
    dead = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert not dead


def test_the_loss_by_hand():
    """Text logits 0 over 4 ids: ln 4. Image logits (ln 3, 0) for code 0: -ln 3/4. 1/8 and 7/8."""
    text_logits = torch.zeros(1, 2, 4)
    image_logits = torch.tensor([[[math.log(3), 0.0]]])
    text, image = torch.tensor([[1, 2]]), torch.tensor([[0]])
    found = dalle_loss(text_logits, image_logits, text, image).item()
    assert found == pytest.approx(math.log(4) / 8 + 7 / 8 * math.log(4 / 3), abs=1e-6)
    only_text = dalle_loss(text_logits, image_logits, text, image, text_weight=1.0).item()
    assert only_text == pytest.approx(math.log(4), abs=1e-6)


def test_codes_are_drawn_as_often_as_the_logits_say():
    probabilities = torch.tensor([0.5, 0.3, 0.15, 0.05])
    logits = probabilities.log().expand(20_000, 4)
    draws = torch.rand(20_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def shares(**options):
        return F.one_hot(choose(logits, draws, **options), 4).double().mean(dim=0)

    noise = 4 * math.sqrt(0.25 / 20_000)
    assert (shares() - probabilities).abs().max() < noise
    sharper = (probabilities.double() ** 2) / (probabilities.double() ** 2).sum()
    assert (shares(temperature=0.5) - sharper).abs().max() < noise
    two = torch.tensor([0.625, 0.375, 0, 0], dtype=torch.float64)
    assert (shares(top_k=2) - two).abs().max() < noise
    assert shares(top_k=2)[2:].eq(0).all()
    assert shares(temperature=0).tolist() == [1, 0, 0, 0]


def test_the_ends_of_the_unit_interval_pick_codes_that_can_be():
    logits = torch.tensor([[-torch.inf, 0.0, 0.0, -torch.inf]]).expand(2, 4)
    ends = torch.tensor([0.0, 1 - 2**-53], dtype=torch.float64)
    assert choose(logits, ends).tolist() == [1, 2]


def test_every_position_has_its_own_padding():
    tokenizer = tiny_tokenizer()
    words = tokenizer.encode("a red circle")
    ids, truncated = text_ids(tokenizer, ["a red circle", "", "a red circle " * 9], 16)
    first = tokenizer.num_tokens
    assert ids[0].tolist() == [*words, *range(first + len(words), first + 16)]
    assert ids[1].tolist() == list(range(first, first + 16))
    assert ids[2].max() < first
    assert truncated == (False, False, True)


def test_dropout_cuts_words_in_other_ways_that_say_the_same():
    tokenizer = tiny_tokenizer()
    caption = "a large yellow triangle above a small purple ring"
    generator = torch.Generator().manual_seed(0)
    cuts = set()
    for _ in range(20):
        ids, _ = text_ids(tokenizer, [caption], 64, dropout=0.3, rngs=[generator])
        words = [i for i in ids[0].tolist() if i < tokenizer.num_tokens]
        assert tokenizer.decode(words) == caption
        cuts.add(tuple(words))
    assert len(cuts) > 10
    bytes_only, _ = text_ids(tokenizer, [caption], 64, dropout=1.0, rngs=[generator])
    assert (bytes_only < tokenizer.num_tokens).sum() == len(caption)
    again = [
        text_ids(tokenizer, [caption], 64, dropout=0.3, rngs=[torch.Generator().manual_seed(5)])[0]
        for _ in range(2)
    ]
    assert torch.equal(*again)


def test_codes_become_images_of_the_dvae():
    decoder = DVAE(DVAEConfig(n_hid=8, group_count=3, n_blk_per_group=1, vocab_size=7, n_init=8))
    images = paint(decoder.decoder, torch.zeros(2, 16, dtype=torch.long))
    assert images.shape == (2, 3, 16, 16)
    assert images.abs().max() <= 1


def test_sizes_that_do_not_fit_are_refused():
    with pytest.raises(ArchitectureError, match="a width that is a multiple of heads"):
        DalleConfig(**{**vars(CONFIG), "heads": 3})
    with pytest.raises(ArchitectureError, match="Missing settings of DALL-E's transformer"):
        DalleConfig.from_flat({"width": 8})
