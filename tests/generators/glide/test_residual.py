"""The residual upsampler: what it makes is added to the enlarged image, in range."""

import torch

from generators.diffusion.noise import image_rngs
from generators.diffusion.process import DiffusionProcess
from generators.diffusion.stage_sampling import StageSampling
from generators.glide.model import GlideConfig, SuperResText2ImUNet
from generators.glide.pipeline import Enlarging, sample_upsampler
from generators.glide.residual import from_residual, residual_threshold, to_residual
from generators.nn.unet import UNetConfig, enlarge


def test_a_residual_by_hand():
    """0.5 against a flat 0.25: the image lacks 0.25, three times that is 0.75."""
    image, low_res = torch.full((1, 3, 8, 8), 0.5), torch.full((1, 3, 2, 2), 0.25)
    residual = to_residual(image, low_res, 3.0)
    torch.testing.assert_close(residual, torch.full_like(image, 0.75))
    torch.testing.assert_close(from_residual(residual, low_res, 3.0), image)


def test_the_threshold_holds_the_image_not_the_residual():
    low_res = torch.full((1, 3, 2, 2), 0.9)
    within, beyond = torch.full((2, 1, 3, 8, 8), -3.0)
    beyond = beyond.abs()
    threshold = residual_threshold(low_res, 3.0)
    torch.testing.assert_close(threshold(within), within)
    torch.testing.assert_close(
        from_residual(threshold(beyond), low_res, 3.0), torch.ones_like(beyond)
    )


def test_a_network_that_knows_nothing_still_enlarges():
    """A new network predicts v = 0, that is r = alpha x_t; after the last step little is left."""
    config = UNetConfig(
        image_size=16, model_channels=32, out_channels=6, num_res_blocks=1, channel_mult=(1,)
    )
    network = SuperResText2ImUNet(GlideConfig(unet=config, text=None)).eval()
    process = DiffusionProcess.from_schedule("cosine", 1000, prediction="v")
    low_res = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(0)) * 2 - 1
    sampling = StageSampling(process=process, sampler="ddim", steps=4)

    def made(residual_scale):
        enlarging = Enlarging(quantise=False, residual_scale=residual_scale)
        noise = image_rngs([0, 1], "upsampler")
        return sample_upsampler(network, low_res, None, noise, sampling, enlarging=enlarging)

    image = made(100.0)
    torch.testing.assert_close(image, enlarge(low_res, image), atol=0.05, rtol=0)
    plain = made(None)
    assert (plain - enlarge(low_res, plain)).abs().max() > 0.5
