"""The DDPM family: equal to diffusers' network, sizes of the released ones, sampling."""

import pytest
import torch
from sampling import stage_sampling

from generators.ddpm.adm import NoisyClassifier, SuperResUNet
from generators.ddpm.model import DDPMConfig, DDPMUNet
from generators.ddpm.pipeline import sample_images
from generators.ddpm.presets import CIFAR10, PRESETS
from generators.ddpm.tiny import build_classifier, build_network
from generators.diffusion.noise import image_rngs
from generators.diffusion.process import DiffusionProcess
from generators.errors import ArchitectureError
from generators.nn.unet import UNetConfig
from generators.released import load_released

SAME_MATHS = 1e-5  # relative L2: other orders of float32 sums
SMALL = DDPMConfig(image_size=8, model_channels=32, channel_mult=(1, 2), attention_levels=(1,))


TINY = {
    "image_size": 8,
    "model_channels": 32,
    "out_channels": 6,
    "num_res_blocks": 1,
    "channel_mult": [1, 2],
    "attention_downsamples": [2],
    "num_head_channels": 32,
    "use_scale_shift_norm": True,
}


def diffusers_network(config):
    diffusers = pytest.importorskip("diffusers", reason="diffusers is an extra")
    attends = [index in config.attention_levels for index in range(len(config.channel_mult))]
    return diffusers.UNet2DModel(
        sample_size=config.image_size,
        block_out_channels=config.widths,
        down_block_types=["AttnDownBlock2D" if a else "DownBlock2D" for a in attends],
        up_block_types=["AttnUpBlock2D" if a else "UpBlock2D" for a in reversed(attends)],
        layers_per_block=config.num_res_blocks,
        downsample_padding=0,
        flip_sin_to_cos=False,
        freq_shift=1,
        norm_eps=1e-6,
        norm_num_groups=32,
        attention_head_dim=None,
    ).eval()


@pytest.mark.parametrize(
    "config",
    [SMALL, CIFAR10.network, DDPMConfig(image_size=8, model_channels=32, channel_mult=(1, 3, 2))],
    ids=["small", "cifar10", "three-levels"],
)
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")  # of diffusers
@torch.no_grad()
def test_network_equals_diffusers(config, relative_error, randomised):
    theirs = randomised(diffusers_network(config))
    ours = DDPMUNet(config).eval()
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(2, 3, *[config.image_size] * 2, generator=torch.Generator().manual_seed(0))
    t = torch.tensor([7, 900])
    assert relative_error(ours(x, t), theirs(x, t).sample) < SAME_MATHS


def test_parameter_counts():
    """CIFAR-10: 35.7 M, CelebA-HQ: 114 M (DDPM, appendix B); ADM: as the released weights."""
    expected = {
        "cifar10": 35_746_307,
        "celebahq256": 113_673_219,
        "adm64": 295_904_454,
        "adm256": 553_838_086,
        "adm256-unconditional": 552_814_086,
    }
    for name, count in expected.items():
        with torch.device("meta"):
            network = PRESETS[name].build()
        assert sum(parameter.numel() for parameter in network.parameters()) == count, name


def test_every_preset_builds_with_its_classifier():
    for preset in PRESETS.values():
        with torch.device("meta"):
            preset.build()
            classifier = preset.build_classifier()
        assert (classifier is None) == (preset.classifier_scale == 0)
        assert preset.process().respaced(preset.respacing).num_steps == int(preset.respacing)


def test_weights_with_old_names_of_attention_load(randomised):
    network = randomised(DDPMUNet(SMALL))
    old = {}
    for name, tensor in network.state_dict().items():
        for before, after in (("query", "to_q"), ("key", "to_k"), ("value", "to_v")):
            name = name.replace(f".{after}.", f".{before}.")
        old[name.replace(".to_out.0.", ".proj_attn.")] = tensor
    assert any(".query." in name for name in old)
    settings = {
        "image_size": 8, "model_channels": 32, "channel_mult": [1, 2], "attention_levels": [1],
    }  # fmt: skip
    loaded = load_released("ddpm-unet", old, settings)
    x, t = torch.ones(1, 3, 8, 8), torch.tensor([5])
    assert torch.equal(loaded(x, t), network(x, t))


def test_gradients_reach_every_parameter_and_labels_matter(randomised):
    config = DDPMConfig(
        image_size=8, model_channels=32, channel_mult=(1, 2), attention_levels=(0,), num_classes=3
    )
    network = randomised(DDPMUNet(config))
    x, t = torch.randn(3, 3, 8, 8), torch.tensor([1, 500, 999])
    out = network(x, t, torch.tensor([0, 1, 2]))
    out.square().mean().backward()
    dead = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert dead == []
    assert not torch.allclose(out, network(x, t, torch.tensor([1, 2, 0])))
    with pytest.raises(ArchitectureError, match="num_classes is 3"):
        network(x, t)


@pytest.mark.parametrize("pool", ["adaptive", "attention", "spatial", "spatial_v2"])
def test_classifier_pools(pool, randomised):
    config = UNetConfig(
        image_size=8,
        model_channels=32,
        out_channels=5,
        num_res_blocks=1,
        channel_mult=(1, 2),
        attention_downsamples=(2,),
        num_head_channels=16,
    )
    classifier = randomised(NoisyClassifier(config, pool))
    logits = classifier(torch.randn(2, 3, 8, 8), torch.tensor([3, 800]))
    assert logits.shape == (2, 5)
    logits.square().sum().backward()
    dead = [n for n, p in classifier.named_parameters() if p.grad is None or not p.grad.any()]
    # a shift of all keys alike cancels in the softmax, so a bias may have next to no gradient
    assert [name for name in dead if "qkv" not in name] == []


def test_pools_that_cannot_be():
    config = UNetConfig(
        image_size=8, model_channels=32, out_channels=5, num_res_blocks=1, channel_mult=(1,)
    )
    with pytest.raises(ArchitectureError, match="Unknown pool 'mean'"):
        NoisyClassifier(config, "mean")
    with pytest.raises(ArchitectureError, match="needs num_head_channels"):
        NoisyClassifier(config, "attention")
    with pytest.raises(ArchitectureError, match="multiple of 32"):
        DDPMConfig(image_size=8, model_channels=20, channel_mult=(1,))


def test_upsampler_doubles_its_input_channels():
    config = UNetConfig(
        image_size=8, model_channels=32, out_channels=6, num_res_blocks=1, channel_mult=(1,)
    )
    assert SuperResUNet(config).input_blocks[0][0].in_channels == 6


def test_a_recipes_networks_take_their_inputs_and_reach_every_parameter(randomised):
    network = randomised(build_network({**TINY, "num_classes": 3}))
    x, t = torch.randn(2, 3, 8, 8), torch.tensor([3, 800])
    assert network(x, t, torch.tensor([0, 2])).shape == (2, 6, 8, 8)
    network(x, t, torch.tensor([0, 1])).square().mean().backward()
    network(x, t, torch.tensor([2, 1])).square().mean().backward()
    assert [n for n, p in network.named_parameters() if p.grad is None or not p.grad.any()] == []
    classifier = build_classifier({**TINY, "out_channels": 5})
    assert classifier(x, t).shape == (2, 5)
    with pytest.raises(ArchitectureError, match="patch_size"):
        build_network({**TINY, "patch_size": 2})


def test_sampling_with_labels_and_a_classifier(randomised):
    network = randomised(build_network({**TINY, "num_classes": 4}))
    classifier = randomised(build_classifier({**TINY, "out_channels": 4}))
    process = DiffusionProcess.from_schedule("cosine", prediction="v")

    def images(seeds=(1, 2), labels=(0, 3), **options):
        networks = {
            "label_network": True,
            "size_px": 8,
            "classifier": options.pop("classifier", None),
        }
        settings = {"process": process, "steps": 3, "sampler": "ancestral"} | options
        return sample_images(
            network,
            image_rngs(seeds),
            stage_sampling(settings),
            labels=torch.tensor(labels),
            **networks,
        )

    plain = images()
    assert plain.shape == (2, 3, 8, 8)
    assert torch.equal(plain, images())
    torch.testing.assert_close(images((2,), (3,))[0], plain[1], rtol=0, atol=1e-4)
    guided = images(classifier=classifier, guidance_scale=5.0)
    others = [guided, images(labels=(1, 2)), images(sampler="ddim"), images(seeds=(3, 4))]
    for other in others:
        assert not torch.allclose(plain, other, atol=1e-3)
    assert torch.equal(plain, images(classifier=classifier, guidance_scale=0.0))
