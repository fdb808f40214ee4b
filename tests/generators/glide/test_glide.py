"""GLIDE end to end on tiny networks with random weights, and the sizes of the real ones."""

import pytest
import torch
from sampling import stage_sampling

from evalkit.core.errors import ConfigError
from generators.clip.model import Clip, ClipConfig
from generators.clip.noised import NoisedClip
from generators.diffusion.noise import image_rngs
from generators.diffusion.process import DiffusionProcess
from generators.diffusion.stage_sampling import StageSampling
from generators.diffusion.thresholding import dynamic_threshold
from generators.glide.inpainting import GivenPixels
from generators.glide.model import (
    GlideConfig,
    InpaintText2ImUNet,
    SuperResInpaintText2ImUNet,
    SuperResText2ImUNet,
    Text2ImUNet,
    TextConfig,
)
from generators.glide.pipeline import (
    Enlarging,
    encode_captions,
    sample_base,
    sample_upsampler,
)
from generators.glide.presets import (
    PAPER_BASE,
    PAPER_UPSAMPLER,
    RELEASED,
    RELEASED_BASE,
    RELEASED_UPSAMPLER,
)
from generators.nn.unet import UNetConfig
from generators.pixels import requantise
from generators.tokenizer import BytePairTokenizer, train_merges, vocabulary

MERGES = train_merges(["a red circle", "a blue square"], 20)
TOKENIZER = BytePairTokenizer(vocabulary(MERGES), MERGES)
TEXT = TextConfig(n_vocab=TOKENIZER.num_tokens, text_ctx=8, xf_width=32, xf_layers=1, xf_heads=2)
CAPTIONS = ["a red circle", "a blue square", "a red circle"]
PROCESS = DiffusionProcess.from_schedule("cosine")
BATCH_TOLERANCE = 1e-3  # rounding of one batch size against another, through all steps


def small(size_px, text=TEXT, **changes):
    settings = {
        "model_channels": 32,
        "out_channels": 6,
        "num_res_blocks": 1,
        "channel_mult": (1, 2),
        "attention_downsamples": (2, 4),
        "num_head_channels": 32,
        "use_scale_shift_norm": True,
        "resblock_updown": True,
    }
    return GlideConfig(unet=UNetConfig(image_size=size_px, **settings | changes), text=text)


@pytest.fixture(scope="module")
def base(randomised):
    return randomised(Text2ImUNet(small(8)))


@pytest.fixture(scope="module")
def upsampler(randomised):
    config = small(16, text=None, attention_downsamples=(), middle_attention=False)
    return randomised(SuperResText2ImUNet(config), seed=1)


def make(base, captions=CAPTIONS, seeds=(1, 2, 1), **options):
    text = encode_captions(base, TOKENIZER, captions)
    settings = {"process": PROCESS, "steps": 3, "guidance_scale": 2.0, "sampler": "ancestral"}
    sampling = stage_sampling(settings | options)
    return sample_base(base, text, image_rngs(seeds, "base"), sampling)


def parameters(network):
    return sum(parameter.numel() for parameter in network.parameters())


def test_parameter_counts_of_the_released_networks():
    with torch.device("meta"):
        base = Text2ImUNet(RELEASED_BASE)
        upsampler = SuperResText2ImUNet(RELEASED_UPSAMPLER)
    assert parameters(base) == 385_030_726
    assert parameters(upsampler) == 398_361_286
    assert len(base.input_blocks) == len(base.output_blocks) == 16
    assert len(upsampler.input_blocks) == len(upsampler.output_blocks) == 18


def test_parameter_counts_of_the_paper():
    """Section 4.1: 2.3 B in the U-Net, 1.2 B in the text blocks, 1.5 B in the upsampler."""
    with torch.device("meta"):
        base, upsampler = Text2ImUNet(PAPER_BASE), SuperResText2ImUNet(PAPER_UPSAMPLER)
    embeddings = 50_257 * 2048 + 2 * 128 * 2048
    text = parameters(base.transformer)
    assert text == pytest.approx(1.209e9, rel=0.005)
    assert parameters(base) - text - embeddings == pytest.approx(2.238e9, rel=0.005)
    assert parameters(upsampler) == pytest.approx(1.5e9, rel=0.1)


def test_inpainting_networks_have_four_more_channels_and_use_them(randomised):
    low_res, image = torch.randn(1, 3, 4, 4), torch.randn(1, 3, 8, 8)
    x, t = torch.randn(1, 3, 8, 8), torch.tensor([5])
    config = small(8)
    tokens = TOKENIZER.pad(["a red circle"], 8)
    call = {"tokens": tokens.ids, "mask": tokens.mask}
    mask = torch.ones(1, 1, 8, 8)
    for kind, extra, channels in (
        (InpaintText2ImUNet, {}, 7),
        (SuperResInpaintText2ImUNet, {"low_res": low_res}, 10),
    ):
        network = randomised(kind(config))
        assert network.input_blocks[0][0].in_channels == channels
        nothing = network(x, t, **extra, **call)
        masked = network(x, t, **extra, **call, inpaint_image=image, inpaint_mask=0 * mask)
        kept = network(x, t, **extra, **call, inpaint_image=image, inpaint_mask=mask)
        assert torch.equal(nothing, masked)
        assert not torch.allclose(nothing, kept)


def test_given_pixels_come_out_as_they_were(randomised):
    """The last predicted image has them put in, and without noise the last step is that image."""
    network = randomised(InpaintText2ImUNet(small(8)))
    image = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(3)) * 2 - 1
    mask = torch.zeros(2, 1, 8, 8)
    mask[0, :, :, :5] = 1
    given = GivenPixels(image * mask, mask)
    text = encode_captions(network, TOKENIZER, CAPTIONS[:2])

    def make_from(kept, sampler="ddim", scale=2.0):
        sampling = StageSampling(process=PROCESS, steps=3, sampler=sampler, guidance_scale=scale)
        return sample_base(network, text, image_rngs([1, 2]), sampling, given=kept)

    for sampler in ("ddim", "ancestral", "dpm++2m"):
        made = make_from(given, sampler)
        torch.testing.assert_close(made[0, :, :, :5], image[0, :, :, :5], rtol=0, atol=2e-3)
        assert not torch.allclose(made[0, :, :, 5:], image[0, :, :, 5:], atol=0.1)
    nothing = GivenPixels(0 * image, 0 * mask)
    torch.testing.assert_close(make_from(given)[1], make_from(nothing)[1], rtol=0, atol=1e-3)
    assert torch.equal(make_from(nothing, scale=1.0), make_from(None, scale=1.0))


def test_given_pixels_of_the_small_image():
    """A small pixel is kept only where all pixels under it are."""
    mask = torch.ones(1, 1, 8, 8)
    mask[0, 0, 0, 0] = 0
    shrunk = GivenPixels(torch.full((1, 3, 8, 8), 0.5) * mask, mask).shrunk(4)
    assert shrunk.mask.sum() == 15
    assert shrunk.mask[0, 0, 0, 0] == 0
    torch.testing.assert_close(shrunk.image[0, :, 1, 1], torch.full((3,), 0.5))


def test_a_noised_clip_pulls_images_towards_their_captions(base, randomised):
    config = ClipConfig(
        image_size=8, patch_size=4, vision_width=32, vision_layers=1, vision_heads=2,
        vocab_size=TOKENIZER.num_tokens, context_length=8, text_width=32, text_layers=1,
        text_heads=2, embed_dim=16, num_timesteps=1000,
    )  # fmt: skip
    clip = NoisedClip(Clip(config).eval(), TOKENIZER)
    tokens = TOKENIZER.pad(CAPTIONS, 8)
    texts = clip.network.encode_text(tokens.ids, tokens.mask)

    def similarity(scale):
        gradient = clip.gradient(CAPTIONS, scale, "cpu") if scale else None
        images = make(base, guidance_scale=1.0, gradient=gradient, steps=10)
        embedded = clip.network.encode_image(images, torch.zeros(3, dtype=torch.long))
        return float((embedded * texts).sum(dim=1).mean().detach())

    assert similarity(0) < similarity(1) < similarity(10)


def test_captions_are_encoded_once_each(base):
    text = encode_captions(base, TOKENIZER, [*CAPTIONS, "a red circle " * 9])
    assert text.text.proj.shape == (4, 128)
    assert text.text.states.shape == (4, 32, 8)
    assert torch.equal(text.text.states[0], text.text.states[2])
    assert text.truncated == (False, False, False, True)


def test_the_base_is_deterministic_and_equal_requests_give_equal_images(base):
    first, again = make(base), make(base)
    assert torch.equal(first, again)
    assert first.shape == (3, 3, 8, 8)
    torch.testing.assert_close(first[0], first[2], rtol=0, atol=BATCH_TOLERANCE)
    assert not torch.allclose(first[0], first[1], atol=0.05)


def test_an_image_does_not_depend_on_its_batch(base):
    many = make(base, [*CAPTIONS] * 10, [1, 2, 1] * 10)
    one = make(base, CAPTIONS[1:2], [2])
    torch.testing.assert_close(many[1], one[0], rtol=0, atol=BATCH_TOLERANCE)


def test_every_option_of_the_base_matters(base):
    results = [
        make(base),
        make(base, guidance_scale=4.0),
        make(base, guidance_scale=1.0),
        make(base, steps="ddim4"),
        make(base, sampler="ddim"),
        make(base, sampler="ddim", eta=1.0),
        make(base, threshold=None),
        make(base, threshold=dynamic_threshold),
        make(base, captions=["a blue square"] * 3),
        make(base, seeds=(7, 8, 9)),
    ]
    for index, one in enumerate(results):
        for other in results[:index]:
            assert not torch.allclose(one, other, atol=1e-3)


def test_guidance_1_is_the_conditional_network_alone(base):
    """1.000001 takes the way through both halves, 1 does not; the images are the same."""
    torch.testing.assert_close(
        make(base, guidance_scale=1.0), make(base, guidance_scale=1.000001), rtol=0, atol=1e-3
    )


def test_the_upsampler_enlarges_rounds_its_input_and_tempers_its_noise(upsampler):
    low_res = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(0)) * 2 - 1

    def enlarge(image, sampler="ddim", **options):
        generators = image_rngs([1, 2], "upsampler")
        sampling = StageSampling(process=PROCESS, steps=3, sampler=sampler)
        enlarging = Enlarging(**options)
        return sample_upsampler(upsampler, image, None, generators, sampling, enlarging=enlarging)

    images = enlarge(low_res)
    assert images.shape == (2, 3, 16, 16)
    assert torch.equal(images, enlarge(requantise(low_res)))
    assert not torch.allclose(images, enlarge(low_res, temperature=0.5))
    assert not torch.allclose(images, enlarge(-low_res))
    assert not torch.allclose(images, enlarge(low_res, sampler="ancestral"))


def test_a_network_without_text_takes_no_captions(upsampler):
    with pytest.raises(ConfigError, match="no text encoder"):
        encode_captions(upsampler, TOKENIZER, CAPTIONS)


def test_schedules_of_the_released_stages():
    base, upsampler = RELEASED.base.process(), RELEASED.upsampler.process()
    assert base.num_steps == upsampler.num_steps == 1000
    assert upsampler.betas[-1] == 0.02
    assert base.betas[-1] == 0.999
