"""The decoder: both conditions matter, either can be left out; degradations; the paper's sizes."""

import dataclasses
import math

import pytest
import torch
from torchvision.transforms.functional import gaussian_blur

from evalkit.core.errors import ConfigError
from generators.errors import ArchitectureError
from generators.glide.model import GlideConfig, SuperResText2ImUNet, TextConfig
from generators.nn.unet import UNetConfig
from generators.recipes.recipe import load_recipe
from generators.tokenizer import tiny_tokenizer
from generators.training.draws import Draws
from generators.unclip import degradations
from generators.unclip.decoder import DecoderConfig, UnclipDecoder, decoder_captions
from generators.unclip.degradations import blur, bsr, gaussian_kernel, resolve_degradation
from generators.unclip.presets import PAPER_DECODER, PAPER_SR1, PAPER_SR2
from generators.unclip.training import UnclipUpsamplerTraining

TEXT = TextConfig(n_vocab=444, text_ctx=12, xf_width=32, xf_layers=1, xf_heads=2)
CONFIG = DecoderConfig(
    glide=GlideConfig(
        unet=UNetConfig(
            image_size=8,
            model_channels=32,
            out_channels=6,
            num_res_blocks=1,
            channel_mult=(1, 2),
            attention_downsamples=(2, 4),
            num_head_channels=32,
            use_scale_shift_norm=True,
            resblock_updown=True,
        ),
        text=TEXT,
    ),
    embed_dim=16,
)


@pytest.fixture(scope="module")
def decoder(randomised):
    return randomised(UnclipDecoder(CONFIG))


def parameters(network):
    return sum(parameter.numel() for parameter in network.parameters())


def test_parameter_counts_of_the_paper():
    """Table 3: 3.5 B, 700 M, 300 M. The decoder is GLIDE's base, whose own counts are tested there.

    On top come 256 - 128 positions twice (with their padding), the two projections of the
    embedding, and the embedding that stands for none.
    """
    with torch.device("meta"):
        decoder = UnclipDecoder(PAPER_DECODER)
        first, second = SuperResText2ImUNet(PAPER_SR1), SuperResText2ImUNet(PAPER_SR2)
    glide = 2.238e9 + 1.209e9 + 50_257 * 2048 + 2 * 128 * 2048
    projections = 1025 * 2048 + 1025 * 4 * 2048
    assert parameters(decoder) == pytest.approx(glide + projections + 2 * 128 * 2048, rel=0.005)
    assert parameters(first) == pytest.approx(0.7297e9, rel=0.005)
    assert parameters(second) == pytest.approx(0.2821e9, rel=0.005)
    assert not any("qkv" in name for name, _ in first.named_parameters()), "no attention"


def test_the_embedding_arrives_twice(decoder):
    """In the timestep and as four tokens behind the caption's."""
    tokens = tiny_tokenizer().pad(["a red circle"], 12)
    given = torch.tensor([True])
    read = decoder.condition(tokens.ids, tokens.mask, torch.ones(1, 16), given)
    other = decoder.condition(tokens.ids, tokens.mask, -torch.ones(1, 16), given)
    assert read.states.shape == (1, 32, 12 + 4)
    assert torch.equal(read.states[..., :12], other.states[..., :12])
    assert not torch.allclose(read.states[..., 12:], other.states[..., 12:])
    assert not torch.allclose(read.proj, other.proj)


def test_either_condition_can_be_left_out(decoder):
    x_t, t = torch.randn(2, 3, 8, 8), torch.tensor([10, 900])
    z = torch.randn(2, 16, generator=torch.Generator().manual_seed(0))

    def output(caption, embedding):
        told = decoder_captions(decoder, tiny_tokenizer(), [caption] * 2, embedding)
        return decoder(x_t, t, text=told.text), told

    both, told = output("a red circle", z)
    only_caption, _ = output("a red circle", None)
    only_embedding, _ = output("", z)
    neither, _ = output("", None)
    outputs = [both, only_caption, only_embedding, neither]
    for index, one in enumerate(outputs):
        assert not any(torch.allclose(one, other, atol=1e-3) for other in outputs[index + 1 :])
    unconditional = told.empty.select(torch.tensor([0, 0]))
    torch.testing.assert_close(decoder(x_t, t, text=unconditional), neither)


def test_what_the_embedding_was_does_not_matter_where_it_is_left_out(decoder):
    tokens = tiny_tokenizer().pad(["a red circle"] * 2, 12)
    z = torch.tensor([[1.0] * 16, [-1.0] * 16])
    read = decoder.condition(tokens.ids, tokens.mask, z, torch.tensor([False, False]))
    assert torch.equal(read.proj[0], read.proj[1])
    assert torch.equal(read.states[0], read.states[1])


def test_a_decoder_without_captions_is_refused():
    with pytest.raises(ArchitectureError, match="xf_width must not be 0"):
        DecoderConfig(glide=dataclasses.replace(CONFIG.glide, text=None), embed_dim=16)
    with pytest.raises(ArchitectureError, match="Missing settings of a decoder: embed_dim"):
        DecoderConfig.from_flat({"image_size": 8})


def test_the_blur_is_another_librarys():
    images = torch.rand(2, 3, 16, 16) * 2 - 1
    torch.testing.assert_close(blur(images), gaussian_blur(images, [3, 3], [0.6, 0.6]))


def test_a_turned_kernel_is_longer_along_its_axis():
    """By hand: deviations 2 and 0.5, turned by a quarter: the tall axis is the vertical one."""
    kernel = gaussian_kernel(7, (2.0, 0.5), math.pi / 2)
    assert float(kernel.sum()) == pytest.approx(1)
    assert float(kernel[0, 3] / kernel[3, 3]) == pytest.approx(math.exp(-0.5 * (3 / 2) ** 2))
    assert float(kernel[3, 0] / kernel[3, 3]) == pytest.approx(math.exp(-0.5 * (3 / 0.5) ** 2))


def test_each_image_is_degraded_in_its_own_way():
    image = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1
    seen = bsr(image.expand(4, -1, -1, -1), [torch.Generator().manual_seed(s) for s in range(4)])
    again = bsr(image.expand(4, -1, -1, -1), [torch.Generator().manual_seed(s) for s in range(4)])
    assert torch.equal(seen, again)
    assert seen.abs().max() <= 1
    assert all(0.01 < float((one - image).abs().mean()) < 0.5 for one in seen)
    assert not torch.allclose(seen[0], seen[1], atol=1e-2)


@pytest.mark.parametrize("step", degradations.BSR_STEPS)
def test_every_step_of_the_degradation_keeps_the_image_recognisable(step):
    ramp = torch.linspace(-0.8, 0.8, 32).expand(1, 3, 32, 32).contiguous()
    seen = [step(ramp, torch.Generator().manual_seed(seed)) for seed in range(5)]
    assert all(one.shape == ramp.shape for one in seen)
    changes = [float((one - ramp).abs().mean()) for one in seen]
    assert max(changes) < 0.15
    assert len({round(change, 6) for change in changes}) > 1, "its strength is random"


def test_a_share_of_the_images_is_degraded():
    recipe = load_recipe("unclip-tiny-sr1")
    images = torch.rand(64, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    for share in (0.0, 0.5, 1.0):
        objective = {**recipe.objective, "degradation_share": share}
        training = UnclipUpsamplerTraining(recipe.model, objective)
        made = training.degraded(images, Draws.seeded(range(64)))
        changed = (made != images).flatten(1).any(dim=1).float().mean()
        assert abs(float(changed) - share) < (0.2 if share == 0.5 else 1e-9)


def test_an_unknown_degradation_is_refused():
    with pytest.raises(ConfigError, match="Unknown degradation 'mud'; known: blur, bsr"):
        resolve_degradation("mud")
