"""The discrete VAE: the authors' numbers, the loss by hand, and every part in use."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F

from generators.dalle.dvae import (
    DVAE,
    DVAEConfig,
    cosine_decay,
    dvae_loss,
    gumbel_softmax,
    kl_from_uniform,
    logit_laplace_nll,
    map_pixels,
    spread_codes,
    unmap_pixels,
    usage_gap,
)
from generators.errors import ArchitectureError
from generators.released import load_released

PARITY = 1e-4  # float32 sums in another order; ours come out below 1e-6
SMALL = DVAEConfig(n_hid=8, group_count=3, n_blk_per_group=1, vocab_size=12, n_init=8)


@torch.no_grad()
def test_the_encoder_gives_the_authors_numbers(reference, relative_error):
    ref = reference("dvae_encoder")
    network = load_released("dalle-dvae-encoder", ref.weights, ref.config)
    assert relative_error(network(**ref.inputs), ref.outputs["logits"]) < PARITY
    assert torch.equal(network.codes(ref.inputs["x"]), ref.outputs["codes"])


@torch.no_grad()
def test_the_decoder_gives_the_authors_numbers(reference, relative_error):
    ref = reference("dvae_decoder")
    network = load_released("dalle-dvae-decoder", ref.weights, ref.config)
    codes = ref.inputs["codes"]
    assert relative_error(network(codes), ref.outputs["stats"]) < PARITY
    assert relative_error(network.reconstruction(codes), ref.outputs["reconstruction"]) < PARITY


@torch.no_grad()
def test_a_code_is_the_blend_that_holds_nothing_else(randomised):
    network = randomised(DVAE(SMALL))
    codes = torch.randint(12, (2, 3, 5), generator=torch.Generator().manual_seed(0))
    blend = F.one_hot(codes, 12).permute(0, 3, 1, 2).float()
    torch.testing.assert_close(network.decoder(codes), network.decoder.from_blend(blend))


def test_logit_laplace_by_hand():
    """x = 1: mapped to 0.9, logit ln 9. With mu = 0, b = 2: ln(2 * 2 * 0.9 * 0.1) + ln(9) / 2."""
    statistics = torch.tensor([0.0, math.log(2)]).view(1, 2, 1, 1)
    found = logit_laplace_nll(statistics, torch.ones(1, 1, 1, 1)).item()
    assert found == pytest.approx(math.log(0.36) + math.log(9) / 2, abs=1e-5)


def test_the_likelihood_is_a_density():
    """Over the mapped pixel in (0, 1) it integrates to 1, whatever mu and b."""
    grid = (torch.arange(200_000, dtype=torch.float64) + 0.5) / 200_000
    x = unclamped_unmap(grid).view(1, 1, 1, -1)
    statistics = torch.tensor([0.7, -0.4], dtype=torch.float64).view(1, 2, 1, 1)
    wide = statistics.expand(1, 2, 1, len(grid))
    density = torch.exp(-logit_laplace_nll(wide, x.double()))
    assert density.mean().item() == pytest.approx(1, abs=1e-3)


def unclamped_unmap(mapped):
    return (mapped - 0.1) / 0.8


def test_pixels_survive_the_mapping():
    x = torch.linspace(0, 1, 11)
    torch.testing.assert_close(unmap_pixels(map_pixels(x)), x)
    assert unmap_pixels(torch.tensor([0.0, 1.0])).tolist() == [0, 1]


def test_kl_against_torch_and_at_its_ends():
    logits = torch.randn(2, 7, 3, 3, generator=torch.Generator().manual_seed(0))
    q = torch.distributions.Categorical(logits=logits.permute(0, 2, 3, 1))
    even = torch.distributions.Categorical(logits=torch.zeros(2, 3, 3, 7))
    expected = torch.distributions.kl_divergence(q, even)
    torch.testing.assert_close(kl_from_uniform(logits), expected)
    assert kl_from_uniform(torch.zeros(1, 7, 1, 1)).abs().item() < 1e-6


def test_relaxed_samples_are_distributed_as_the_logits_say():
    """When cold the blend is nearly one-hot, and each code comes as often as it should."""
    probabilities = torch.tensor([0.5, 0.3, 0.2])
    logits = probabilities.log().view(1, 3, 1, 1).expand(1, 3, 100, 200)
    blend = gumbel_softmax(logits, 0.01, [torch.Generator().manual_seed(0)] * len(logits))
    torch.testing.assert_close(blend.sum(dim=1), torch.ones(1, 100, 200))
    assert blend.amax(dim=1).mean() > 0.98
    share = F.one_hot(blend.argmax(dim=1), 3).float().mean(dim=(0, 1, 2))
    assert (share - probabilities).abs().max() < 4 * math.sqrt(0.25 / 20_000)
    hot = gumbel_softmax(logits, 10.0, [torch.Generator().manual_seed(0)] * len(logits))
    assert hot.amax(dim=1).mean() < 0.5


def test_the_loss_is_its_two_terms_and_each_weight_matters():
    network = DVAE(SMALL)
    x = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))

    def loss(tau=0.5, kl_weight=0.0, seed=0):
        generator = torch.Generator().manual_seed(seed)
        return dvae_loss(network, x, tau=tau, kl_weight=kl_weight, rngs=[generator] * len(x)).item()

    with torch.no_grad():
        kl = kl_from_uniform(network.encoder(x)).sum(dim=(1, 2)).mean().item()
    assert loss(kl_weight=6.6) - loss() == pytest.approx(6.6 * kl / (3 * 16 * 16), rel=1e-3)
    assert len({loss(), loss(tau=1.0), loss(seed=1), loss(kl_weight=1)}) == 4


def test_gradients_reach_every_parameter(randomised):
    network = randomised(DVAE(SMALL)).train()
    x = torch.rand(2, 3, 16, 16)
    dvae_loss(network, x, tau=0.7, kl_weight=1.0, rngs=[torch.Generator()] * len(x)).backward()
    dead = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert not dead


@torch.no_grad()
def test_the_batch_size_does_not_move_the_logits(randomised):
    network = randomised(DVAE(SMALL))
    x = torch.rand(5, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    together = network.encoder(x)
    for index in range(5):
        alone = network.encoder(x[index : index + 1])[0]
        torch.testing.assert_close(alone, together[index], rtol=1e-5, atol=1e-5)


def test_sizes_that_do_not_fit_are_refused():
    with pytest.raises(ArchitectureError, match="edges of multiples of 4, got \\(3, 16, 18\\)"):
        DVAE(SMALL).encoder(torch.zeros(1, 3, 16, 18))
    with pytest.raises(ArchitectureError, match="n_hid a multiple of 4"):
        DVAEConfig(n_hid=6)
    with pytest.raises(ArchitectureError, match="each value, got 5"):
        DVAEConfig(output_channels=5)
    with pytest.raises(ArchitectureError, match=r"expected twice input_channels \(1\)"):
        DVAE(DVAEConfig(input_channels=1))
    with pytest.raises(ArchitectureError, match="Unknown settings of a discrete VAE: depth"):
        DVAEConfig.from_flat({"depth": 3})


def test_the_temperature_falls_and_stays():
    values = [cosine_decay(step, start=1, end=1 / 16, steps=100) for step in range(150)]
    assert values[0] == 1
    assert values[100:] == [1 / 16] * 50
    assert all(a >= b for a, b in itertools.pairwise(values))


def test_spreading_makes_many_codes_serve_from_the_start():
    torch.manual_seed(0)
    network = DVAE(DVAEConfig(n_hid=8, group_count=3, n_blk_per_group=1, vocab_size=64, n_init=8))
    x = torch.rand(16, 3, 32, 32)
    before = network.encoder.codes(x).unique().numel()
    spread_codes(network, x, 4.0)
    logits = network.encoder(x)
    assert torch.allclose(logits.mean(dim=(0, 2, 3)), torch.zeros(64), atol=1e-3)
    assert torch.allclose(logits.std(dim=(0, 2, 3)), torch.full((64,), 4.0), rtol=1e-3)
    assert network.encoder.codes(x).unique().numel() > max(20, 2 * before)


def test_the_usage_gap_is_over_the_whole_batch_and_moves_the_loss():
    sure = 50 * torch.eye(6)[:, :, None, None]  # each image one code, each another one
    assert usage_gap(sure).item() == pytest.approx(0, abs=1e-5)
    assert usage_gap(sure[:3]).item() == pytest.approx(math.log(2), abs=1e-5)
    never = (1e4 * sure[:3]).requires_grad_()  # three codes have a share of exactly 0
    usage_gap(never).backward()
    assert never.grad is not None
    assert bool(never.grad.isfinite().all())
    network = DVAE(DVAEConfig(n_hid=8, group_count=2, n_blk_per_group=1, vocab_size=6, n_init=8))
    x = torch.rand(2, 3, 8, 8)

    def loss(weight: float) -> torch.Tensor:
        seeded = torch.Generator().manual_seed(0)
        return dvae_loss(
            network, x, tau=0.5, kl_weight=1.0, rngs=[seeded] * len(x), usage_weight=weight
        )

    gap = usage_gap(network.encoder(x))
    assert gap > 0
    assert torch.allclose(loss(0.7) - loss(0.0), 0.7 * gap, atol=1e-5)
