"""Imagen's networks: the order of resampling, what they read, the paper's sizes, sampling."""

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from sampling import stage_sampling

from evalkit.core.errors import ConfigError
from generators.diffusion.noise import image_rngs
from generators.diffusion.process import DiffusionProcess
from generators.diffusion.thresholding import dynamic_threshold, static_threshold, threshold_for
from generators.errors import ArchitectureError
from generators.imagen.augmentation import augmented, residual_scale_at, signal_share, trusted
from generators.imagen.model import ImagenBase, ImagenConfig, ImagenUpsampler, TextPooling
from generators.imagen.pipeline import sample_base, sample_upsampler
from generators.imagen.presets import PAPER_BASE, PAPER_SR1, PAPER_SR2
from generators.nn.attention import CrossAttentionBlock
from generators.nn.efficient_unet import SKIP_SCALE, EfficientUNetConfig, ResNetBlock
from generators.nn.unet import UNetConfig, enlarge

TEXT_WIDTH = 32
BASE = ImagenConfig(
    unet=UNetConfig(
        image_size=8,
        model_channels=32,
        out_channels=3,
        num_res_blocks=1,
        channel_mult=(1, 2),
        attention_downsamples=(2,),
        num_head_channels=32,
        use_scale_shift_norm=True,
    ),
    text_width=TEXT_WIDTH,
)
UPSAMPLER = ImagenConfig(
    unet=EfficientUNetConfig(image_size=16, channels=(32, 64), num_res_blocks=(1, 2), num_heads=4),
    text_width=TEXT_WIDTH,
)
PROCESS = DiffusionProcess.from_schedule("cosine", prediction="v", variance="fixed_small")
SEEDS = [1, 2, 1]
ROUNDING = 1e-3  # one batch size against another, through random weights and all steps


@pytest.fixture(scope="module")
def base(randomised):
    return randomised(ImagenBase(BASE))


@pytest.fixture(scope="module", params=[True, False], ids=["self-attention", "cross-attention"])
def upsampler(request, randomised):
    unet = dataclasses.replace(UPSAMPLER.unet, self_attention=request.param)
    return randomised(ImagenUpsampler(dataclasses.replace(UPSAMPLER, unet=unet)))


@pytest.fixture(scope="module")
def states():
    """Two captions, the first of them twice, with zeros for padding."""
    drawn = torch.randn(2, 6, TEXT_WIDTH, generator=torch.Generator().manual_seed(0))
    drawn[0, 4:] = 0
    return drawn[[0, 1, 0]]


def parameters(network):
    return sum(parameter.numel() for parameter in network.parameters())


def linear(fan_in, fan_out):
    return fan_in * fan_out + fan_out


def conv(size, fan_in, fan_out):
    return size * size * fan_in * fan_out + fan_out


def res_net_block(fan_in, fan_out):
    norms = 2 * fan_in + 2 * fan_out
    return norms + conv(3, fan_in, fan_out) + conv(3, fan_out, fan_out) + conv(1, fan_in, fan_out)


def efficient_unet(*, widths, numbers, text, self_attention):
    """The count from the appendix's figures, block by block."""
    emb = 4 * widths[0]
    if self_attention:  # 8 heads, hidden size twice the width; text before the keys and values
        inner = 2 * widths[-1]
        attention = linear(widths[-1], 3 * inner) + linear(text, 2 * inner)
        attention += linear(inner, widths[-1]) + 2 * widths[-1]
    else:
        attention = linear(text, 2 * widths[-1]) + 2 * linear(widths[-1], widths[-1])
        attention += 2 * widths[-1]
    total = conv(3, 6, widths[0]) + 2 * attention
    for level, (width, number) in enumerate(zip(widths, numbers, strict=True)):
        finer = widths[max(level - 1, 0)]
        joined = width if level == len(widths) - 1 else 2 * width
        total += conv(3, finer, width) + conv(3, width, finer)  # down and up
        total += linear(emb, width) + linear(emb, joined)  # CombineEmbs
        total += number * res_net_block(width, width)
        total += res_net_block(joined, width) + (number - 1) * res_net_block(width, width)
    total += 2 * (linear(widths[0], emb) + linear(emb, emb))  # timestep and augmentation level
    pooling = linear(text, text) + linear(text, 2 * text) + linear(text, emb)
    return total + pooling + 2 * text + 4 * widths[0] + conv(3, 2 * widths[0], 3)


def test_parameter_counts_of_the_paper():
    """Appendix F: 2 B, 600 M, 400 M, rounded; docs/models/imagen.md says where ours differ and why.

    The base is GLIDE's U-Net (2.238 B by its own test, with a context of 2,048) whose 21 attention
    blocks read 4,096 numbers instead, with half the output and pooled text.
    """
    with torch.device("meta"):
        base = ImagenBase(PAPER_BASE)
        first, second = ImagenUpsampler(PAPER_SR1), ImagenUpsampler(PAPER_SR2)
    blocks = [m for m in base.modules() if hasattr(m, "encoder_kv")]
    wider = sum(2048 * block.encoder_kv.weight.shape[0] for block in blocks)
    pooling = linear(4096, 3 * 4096) + linear(4096, 2048)
    assert parameters(base) == pytest.approx(2.238e9 + wider + pooling, rel=0.005)
    sizes = {"widths": (128, 256, 512, 1024), "numbers": (2, 4, 8, 8), "text": 4096}
    assert parameters(first) == efficient_unet(**sizes, self_attention=True)
    assert parameters(second) == efficient_unet(**sizes, self_attention=False)


def test_blocks_resample_first_on_the_way_down_and_last_on_the_way_up(upsampler, states):
    sizes = {}
    for name, module in upsampler.named_modules():
        if isinstance(module, ResNetBlock):
            module.register_forward_hook(
                lambda m, x, y, name=name: sizes.__setitem__(name, y.shape[-1])
            )
    evaluate(upsampler, states)
    assert {size for name, size in sizes.items() if "blocks.0" in name.split(".res")[0]} == {8}
    assert {size for name, size in sizes.items() if "blocks.1" in name.split(".res")[0]} == {4}
    attending = [n for n, m in upsampler.named_modules() if hasattr(m, "encoder_kv")]
    assert attending == ["down_blocks.1.attention", "up_blocks.1.attention"]
    assert pytest.approx(2**-0.5) == SKIP_SCALE


def evaluate(upsampler, states, **changes):
    generator = torch.Generator().manual_seed(5)
    inputs = {
        "x": torch.randn(3, 3, 16, 16, generator=generator),
        "t": torch.tensor([0, 500, 999]),
        "low_res": torch.randn(3, 3, 8, 8, generator=generator),
        "aug_level": torch.tensor([0.0, 0.5, 1.0]),
        "text": upsampler.read_text(states),
    } | changes
    return upsampler(**inputs)


def test_the_upsampler_reads_everything_it_is_given(upsampler, states):
    usual = evaluate(upsampler, states)
    text, other = upsampler.read_text(states), upsampler.read_text(states.flip(1))
    changes = {
        "t": torch.tensor([7, 400, 800]),
        "low_res": torch.zeros(3, 3, 8, 8),
        "aug_level": torch.tensor([0.3, 0.2, 0.6]),
        "pooled text": dataclasses.replace(text, proj=upsampler.read_text(states.flip(2)).proj),
        "full text": dataclasses.replace(text, kv=upsampler.read_text(states.flip(2)).kv),
    }
    assert usual.shape == (3, 3, 16, 16)
    for name, change in changes.items():
        moved = evaluate(upsampler, states, **{"text" if "text" in name else name: change})
        assert (moved - usual).abs().amax(dim=(1, 2, 3)).min() > 1e-4, name
    torch.testing.assert_close(other.proj, text.proj)  # a set of states: order is the encoder's


def test_the_pooling_attends_by_content(randomised, states):
    """Against a loop over heads and states, written from the definition."""
    pooling = randomised(TextPooling(128, 8))
    tokens = torch.randn(2, 5, 128, generator=torch.Generator().manual_seed(1))
    pooled = pooling(tokens)
    assert pooling.num_heads == 2
    for batch in range(2):
        mean = tokens[batch].mean(dim=0)
        rows = torch.cat([mean[None], tokens[batch]])
        k, v = pooling.kv(rows).chunk(2, dim=-1)
        heads = []
        for head in (slice(0, 64), slice(64, 128)):
            weights = (k[:, head] @ pooling.q(mean)[head] / 64**0.5).softmax(dim=0)
            heads.append(weights @ v[:, head])
        expected = pooling.proj(torch.cat(heads))
        torch.testing.assert_close(pooled[batch], expected, rtol=1e-4, atol=1e-4)


def test_cross_attention_sees_the_context_alone(randomised):
    """With one token in the context, every position gathers that token's value."""
    block = randomised(CrossAttentionBlock(32, num_heads=4, context_channels=16))
    x, context = torch.randn(1, 32, 3, 3), torch.randn(1, 16, 1)
    gathered = block(x, block.project_context(context)) - x
    value = F.linear(context[:, :, 0], block.encoder_kv.weight[:, :, 0], block.encoder_kv.bias)
    expected = F.linear(value[:, 32:], block.proj_out.weight[:, :, 0], block.proj_out.bias)
    torch.testing.assert_close(
        gathered, expected[:, :, None, None].expand_as(x), rtol=1e-4, atol=1e-4
    )


def test_augmentation_preserves_variance():
    """By hand: alpha_bar is 0.494 in the middle; 0 changes nothing, 1 leaves nothing."""
    image, noise = torch.full((3, 3, 4, 4), 0.5), torch.full((3, 3, 4, 4), 2.0)
    level = torch.tensor([0.0, 0.5, 1.0])
    seen = augmented(image, level, noise)
    assert torch.equal(seen[0], image[0])
    assert float(seen[1, 0, 0, 0]) == pytest.approx(0.494**0.5 * 0.5 + 0.506**0.5 * 2, rel=1e-3)
    torch.testing.assert_close(seen[2], noise[2])
    assert bool((signal_share(torch.linspace(0, 1, 50)).diff() < 0).all())


def make(network, states, seeds=SEEDS, **options):
    settings = {
        "process": PROCESS,
        "guidance_scale": 3.0,
        "steps": 3,
        "sampler": "ddim",
        "threshold": static_threshold,
    } | options
    noise = image_rngs(seeds)
    aug_level, residual_scale = settings.pop("aug_level", 0.2), settings.pop("residual_scale", None)
    sampling = stage_sampling(settings)
    if isinstance(network, ImagenBase):
        return sample_base(network, states, noise, sampling)
    low_res = torch.linspace(-1, 1, 8).expand(len(states), 3, 8, 8)
    return sample_upsampler(
        network, low_res, states, noise, sampling, aug_level=aug_level,
        residual_scale=residual_scale,
    )  # fmt: skip


def test_an_image_depends_on_its_own_noise_and_text(base, upsampler, states):
    for network in (base, upsampler):
        batch = make(network, states)
        alone = make(network, states[1:2], seeds=[2])
        torch.testing.assert_close(batch[1:2], alone, rtol=ROUNDING, atol=ROUNDING)
        torch.testing.assert_close(batch[0], batch[2], rtol=ROUNDING, atol=ROUNDING)
        assert not torch.allclose(batch[0], batch[1], atol=1e-2)


def test_guidance_zero_is_no_text(base, upsampler, states):
    """Zeroed states are the unconditional half: with s = 0 nothing of the text is left."""
    for network in (base, upsampler):
        without = make(network, torch.zeros_like(states), guidance_scale=1.0)
        torch.testing.assert_close(
            make(network, states, guidance_scale=0.0), without, rtol=ROUNDING, atol=ROUNDING
        )
        assert not torch.allclose(make(network, states), without, atol=1e-2)


def test_thresholds_and_levels_matter(base, upsampler, states):
    dynamic = threshold_for("dynamic", 0.9)
    for network in (base, upsampler):
        changed = make(network, states, threshold=dynamic)
        assert not torch.allclose(make(network, states), changed, atol=1e-3)
    assert not torch.allclose(make(upsampler, states), make(upsampler, states, aug_level=0.6))


def test_a_residual_is_added_to_the_augmented_image_as_far_as_it_can_be_trusted(upsampler, states):
    """A scale of 1000 leaves the enlarged image, whatever the network says, if nothing is noised.

    At level 1 nothing is left of it, and the network makes the whole image.
    """
    low_res = torch.linspace(-1, 1, 8).expand(len(states), 3, 8, 8)
    for threshold in (static_threshold, threshold_for("dynamic", 0.995)):
        image = make(upsampler, states, residual_scale=1e3, aug_level=0.0, threshold=threshold)
        torch.testing.assert_close(image, enlarge(low_res, image), atol=0.05, rtol=0)
    noised = make(upsampler, states, residual_scale=1e3, aug_level=1.0)
    assert (noised - enlarge(low_res, noised)).abs().max() > 0.2


def test_the_residual_has_about_unit_variance_at_every_level():
    """Pixels of unit variance, and a residual without noise whose scale is right by definition."""
    rng = torch.Generator().manual_seed(0)
    image, lost, noise = (torch.randn(1, 3, 96, 96, generator=rng) for _ in range(3))
    scale, level = 8.0, torch.linspace(0, 1, 11)
    for one in level.split(1):
        known = trusted(augmented(image, one, noise), one)
        residual = residual_scale_at(scale, one) * (image + lost / scale - known)
        assert 0.5 < float(residual.var()) < 1.2
    assert torch.equal(trusted(image, torch.zeros(1)), image)
    assert float(residual_scale_at(scale, torch.zeros(1))) == pytest.approx(scale)


def test_thresholds_by_name():
    x_0 = torch.tensor([[0.5, -2.0, 4.0]])
    assert torch.equal(threshold_for("static", 0.5)(x_0), static_threshold(x_0))
    assert torch.equal(threshold_for("dynamic", 0.5)(x_0), dynamic_threshold(x_0, percentile=0.5))
    with pytest.raises(ConfigError, match="Unknown threshold 'none'; known: dynamic, static"):
        threshold_for("none", 0.5)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"num_res_blocks": [1]}, "must have one entry per block, got 2 and 1"),
        ({"channels": [32, 50]}, r"multiple of 32, got \[32, 50\]"),
        ({"num_heads": 5}, "64 cannot be split into 5 heads"),
        ({"image_size": 18}, "image_size 18 cannot be halved 2 times"),
        ({"surprise": 1}, "Unknown settings of an Efficient U-Net: surprise"),
        ({"text_width": None}, "Missing settings of an Imagen network: text_width"),
    ],
)
def test_impossible_sizes_are_refused(change, complaint):
    settings = {
        "image_size": 16,
        "channels": [32, 64],
        "num_res_blocks": [1, 1],
        "text_width": 32,
    } | change
    with pytest.raises(ArchitectureError, match=complaint):
        ImagenConfig.upsampler_from_flat({k: v for k, v in settings.items() if v is not None})
