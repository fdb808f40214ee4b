"""The U-Net against a plain second implementation, over configurations the fixtures don't have."""

import pytest
import torch

from generators.ddpm.adm import SuperResUNet
from generators.errors import ArchitectureError
from generators.glide.model import GlideConfig, SuperResText2ImUNet, Text2ImUNet
from generators.nn.unet import UNet, UNetConfig
from tests.reference.plain_unet import PlainUNet

SAME_MATHS = 1e-5  # relative L2: another order of float32 sums through some 30 layers
SMALL = {
    "image_size": 8,
    "model_channels": 32,
    "out_channels": 6,
    "num_res_blocks": 1,
    "channel_mult": [1, 2],
    "attention_downsamples": [1, 2],
    "num_heads": 2,
}
UPDOWN = {"use_scale_shift_norm": True, "resblock_updown": True}
VARIANTS = {
    "plain": {},
    "scale-shift": {"use_scale_shift_norm": True},
    "updown": UPDOWN,
    "no-conv-resample": {"conv_resample": False},
    "new-order": {"use_new_attention_order": True},
    "head-channels": {"num_head_channels": 16},
    "other-heads-up": {"num_heads_upsample": 4},
    "three-levels": {"channel_mult": [1, 1, 3], "num_res_blocks": 2, **UPDOWN},
    "half-first": {"model_channels": 64, "channel_mult": [0.5, 1], **UPDOWN},
    "no-attention": {"attention_downsamples": []},
    "classes": {"num_classes": 5, **UPDOWN},
}
TEXT = {"n_vocab": 40, "text_ctx": 6, "xf_width": 32, "xf_layers": 2, "xf_heads": 4}


def inputs(seed=0, batch=2, size=8):
    generator = torch.Generator().manual_seed(seed)
    return {
        "x": torch.randn(batch, 3, size, size, generator=generator),
        "t": torch.tensor([3, 700])[:batch],
    }


@pytest.mark.parametrize("variant", VARIANTS)
@torch.no_grad()
def test_unet_equals_the_plain_one(variant, randomised, relative_error):
    config = SMALL | VARIANTS[variant]
    network = randomised(UNet(UNetConfig.from_flat(config)))
    call = inputs() | ({"y": torch.tensor([4, 0])} if "num_classes" in config else {})
    expected = PlainUNet(network.state_dict(), config)(**call)
    assert relative_error(network(**call), expected) < SAME_MATHS


@pytest.mark.parametrize(
    "changes",
    [{}, UPDOWN, {"use_new_attention_order": True}, {"xf_final_ln": False}, {"xf_padding": False}],
    ids=lambda changes: "-".join(changes) or "plain",
)
@torch.no_grad()
def test_glide_equals_the_plain_one(changes, randomised, relative_error):
    config = SMALL | TEXT | changes
    network = randomised(Text2ImUNet(GlideConfig.from_flat(config)))
    tokens = torch.tensor([[1, 2, 3, 39, 39, 39], [5, 6, 7, 8, 9, 10]])
    call = inputs() | {"tokens": tokens, "mask": tokens != 39}
    expected = PlainUNet(network.state_dict(), config)(**call)
    assert relative_error(network(**call), expected) < SAME_MATHS


@torch.no_grad()
def test_upsamplers_equal_the_plain_one(randomised, relative_error):
    config = SMALL | UPDOWN
    low_res = inputs(seed=1, size=4)["x"]
    tokens = torch.tensor([[1, 2, 3, 39, 39, 39], [5, 6, 7, 8, 9, 10]])
    with_text = {"tokens": tokens, "mask": tokens != 39}
    for network, call in (
        (SuperResUNet(UNetConfig.from_flat(config)), {}),
        (SuperResText2ImUNet(GlideConfig.from_flat(config)), {}),
        (SuperResText2ImUNet(GlideConfig.from_flat(config | TEXT)), with_text),
    ):
        network = randomised(network)
        call = inputs() | {"low_res": low_res} | call
        expected = PlainUNet(network.state_dict(), config | TEXT)(**call)
        assert relative_error(network(**call), expected) < SAME_MATHS


def test_gradients_reach_every_parameter(randomised):
    config = SMALL | UPDOWN | TEXT
    network = randomised(Text2ImUNet(GlideConfig.from_flat(config)))
    tokens = torch.tensor([[1, 2, 3, 39, 39, 39], [5, 6, 7, 8, 9, 10]])
    network(**inputs(), tokens=tokens, mask=tokens != 39).square().mean().backward()
    dead = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert dead == []


def test_a_new_network_predicts_nothing_and_middle_attention_can_be_off():
    config = UNetConfig.from_flat(
        SMALL | {"attention_downsamples": [], "middle_attention": False, **UPDOWN}
    )
    network = UNet(config)
    assert not any("qkv" in name for name in network.state_dict())
    assert not network(**inputs()).any()


@torch.no_grad()
def test_an_image_does_not_depend_on_its_batch(randomised):
    network = randomised(UNet(UNetConfig.from_flat(SMALL | UPDOWN)))
    x, t = inputs()["x"].repeat(8, 1, 1, 1), torch.tensor([3, 700]).repeat(8)
    torch.testing.assert_close(network(x, t)[:1], network(x[:1], t[:1]), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_text_states_computed_once_equal_tokens_each_time(randomised):
    network = randomised(Text2ImUNet(GlideConfig.from_flat(SMALL | UPDOWN | TEXT)))
    tokens = torch.tensor([[1, 2, 3, 39, 39, 39], [5, 6, 7, 8, 9, 10]])
    states = network.encode_text(tokens, tokens != 39)
    once = network(**inputs(), text=states)
    assert torch.equal(once, network(**inputs(), tokens=tokens, mask=tokens != 39))


def test_bfloat16_autocast_trains_and_stays_close(randomised, relative_error):
    network = randomised(UNet(UNetConfig.from_flat(SMALL | UPDOWN)))
    exact = network(**inputs())
    with torch.autocast("cpu", torch.bfloat16):
        reduced = network(**inputs())
    assert relative_error(reduced.detach(), exact.detach()) < 0.05  # 8 bits, some 30 layers
    reduced.float().square().mean().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_channels": 20}, "multiple of 32"),
        ({"channel_mult": []}, "multiple of 32"),
        ({"num_heads": 3}, "cannot be split into 3 heads"),
    ],
)
def test_configurations_that_cannot_be_built(changes, message):
    with pytest.raises(ArchitectureError, match=message):
        UNetConfig.from_flat(SMALL | changes)


def test_labels_and_captions_where_there_are_none():
    with pytest.raises(ArchitectureError, match="num_classes is None"):
        UNet(UNetConfig.from_flat(SMALL))(**inputs(), y=torch.tensor([0, 1]))
    glide = Text2ImUNet(GlideConfig.from_flat(SMALL | TEXT))
    with pytest.raises(ArchitectureError, match="A caption is required"):
        glide(**inputs())
    with pytest.raises(ArchitectureError, match="needs the mask"):
        glide(**inputs(), tokens=torch.zeros(2, 6, dtype=torch.long))
    with pytest.raises(ArchitectureError, match="reads 6 tokens, got 5"):
        glide.encode_text(torch.zeros(2, 5, dtype=torch.long))
