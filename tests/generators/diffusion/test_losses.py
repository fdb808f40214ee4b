"""Losses: the authors' numbers, and the bound where its value is known."""

import math

import numpy as np
import pytest
import torch

from generators.diffusion.losses import (
    bits_per_dim,
    bound_term,
    gaussian_kl,
    hybrid_loss,
    level_log_probability,
    prior_term,
    simple_loss,
    velocity_weight,
)
from generators.diffusion.process import DiffusionProcess
from tests.reference.plain_diffusion import (
    gaussian_eps,
    gaussian_reverse_variance,
    levels_entropy_bits,
)


def test_hybrid_loss_of_the_released_code(reference, relative_error):
    ref = reference("diffusion")
    x_0, t, noise, output = (ref.inputs[k] for k in ("x0", "t", "noise", "model_output"))
    for schedule in ("linear", "cosine"):
        process = DiffusionProcess.from_schedule(schedule)
        x_t = process.q_sample(x_0, t, noise)
        loss = hybrid_loss(process, output, x_0, x_t, t, noise)
        assert relative_error(loss, ref.outputs[f"{schedule}.hybrid_loss"]) < 1e-6


def test_hybrid_loss_moves_the_mean_by_the_simple_loss_alone():
    process = DiffusionProcess.from_schedule("cosine")
    generator = torch.Generator().manual_seed(0)
    x_0, noise = torch.randn(2, 2, 3, 4, 4, generator=generator)
    output = torch.randn(2, 6, 4, 4, generator=generator).requires_grad_()
    t = torch.tensor([10, 500])
    x_t = process.q_sample(x_0, t, noise)
    (hybrid,) = torch.autograd.grad(hybrid_loss(process, output, x_0, x_t, t, noise).sum(), output)
    (simple,) = torch.autograd.grad(simple_loss(process, output, x_0, t, noise).sum(), output)
    torch.testing.assert_close(hybrid[:, :3], simple[:, :3])
    assert not simple[:, 3:].any()
    assert hybrid[:, 3:].abs().min() > 0


def test_weighted_errors_in_eps_are_errors_in_v():
    """The same guess, once read as eps and once as v, has the same loss."""
    eps, v = (
        DiffusionProcess.from_schedule("cosine", prediction=kind, variance="fixed_small")
        for kind in ("eps", "v")
    )
    generator = torch.Generator().manual_seed(0)
    x_0, noise, wrong = torch.randn(3, 4, 3, 4, 4, generator=generator, dtype=torch.float64)
    t = torch.tensor([5, 300, 600, 900])
    guess = noise + 0.1 * wrong
    x_t = eps.q_sample(x_0, t, noise)
    alpha = torch.tensor(eps.alpha_bar).sqrt()[t].view(-1, 1, 1, 1)
    sigma = (1 - alpha**2).sqrt()
    guess_v = alpha * guess - sigma * (x_t - sigma * guess) / alpha
    weighted = velocity_weight(eps, t, cap=1e9) * simple_loss(eps, guess, x_0, t, noise)
    torch.testing.assert_close(
        weighted, simple_loss(v, guess_v, x_0, t, noise), rtol=1e-4, atol=1e-6
    )
    assert velocity_weight(eps, torch.tensor([990]), cap=10.0).tolist() == [10.0]


def test_simple_loss_by_hand():
    """Noise 1, prediction 0.5: (1 - 0.5)^2 in every pixel."""
    process = DiffusionProcess.from_schedule("linear", variance="fixed_small")
    ones = torch.ones(1, 3, 2, 2)
    loss = simple_loss(process, 0.5 * ones, 0 * ones, torch.tensor([3]), ones)
    assert loss.tolist() == [0.25]


def test_divergence_of_gaussians_by_hand():
    """KL(N(0, 1) || N(1, 4)) = (ln 4 - 1 + 1/4 + 1/4) / 2 = 0.443147."""
    zero, one = torch.zeros(1), torch.ones(1)
    kl = gaussian_kl(zero, zero, one, torch.tensor([math.log(4.0)]))
    assert kl.item() == pytest.approx(0.443147, abs=1e-6)
    assert gaussian_kl(one, one, one, one).item() == 0


def test_level_probabilities_sum_to_one_and_match_the_normal_distribution():
    """All 256 levels of N(0.3, 0.2^2); the tanh approximation is off by less than 2e-4 a tail."""
    levels = torch.linspace(-1, 1, 256).reshape(1, 1, 1, 256)
    log_mass = level_log_probability(
        levels, torch.full_like(levels, 0.3), torch.full_like(levels, math.log(0.2))
    )
    mass = log_mass.exp().flatten()
    assert mass.sum().item() == pytest.approx(1, abs=1e-5)
    normal = torch.distributions.Normal(0.3, 0.2)
    exact = normal.cdf(levels + 1 / 255) - normal.cdf(levels - 1 / 255)
    torch.testing.assert_close(mass[1:-1], exact.flatten()[1:-1], rtol=0, atol=2e-5)


def test_prior_is_the_divergence_at_the_last_step():
    process = DiffusionProcess(betas=np.array([0.5]), variance="fixed_small")
    expected = 0.5 * (0.5 * 0.36 + 0.5 - 1 - math.log(0.5)) / math.log(2)
    x_0 = torch.full((1, 1, 1, 1), 0.6)
    assert prior_term(process, x_0).item() == pytest.approx(expected, rel=1e-6)


def test_bits_per_dim_of_a_gaussian_is_its_entropy():
    """Data: N(0.1, 0.3^2) on the 256 levels; model: the best mean and variance, in closed form.

    For Gaussian data each reverse step is Gaussian, so the bound is tight with any number of steps.
    Entropy: log2(0.3 sqrt(2 pi e) / (2 / 255)) = 7.304 bits.
    """
    mean, sigma = 0.1, 0.3
    entropy = levels_entropy_bits(mean, sigma)
    assert entropy == pytest.approx(7.304, abs=0.01)  # the outer levels take the tails
    process = DiffusionProcess.from_schedule("cosine", 20)
    betas = list(process.betas)
    generator = torch.Generator().manual_seed(0)
    shape = (16, 1, 64, 64)
    x_0 = mean + sigma * torch.randn(shape, generator=generator)
    x_0 = ((x_0 + 1) * 127.5).round().clamp(0, 255) / 127.5 - 1

    def best(x_t, timesteps):
        t = int(timesteps[0])
        small, large = process.posterior_log_variance[t], math.log(betas[t])
        log_variance = math.log(gaussian_reverse_variance(betas, t, sigma**2))
        placed = 2 * (log_variance - small) / (large - small) - 1
        eps = gaussian_eps(process.alpha_bar[t], mean, sigma**2)(x_t)
        return torch.cat([eps, torch.full_like(x_t, placed)], dim=1)

    noise = lambda index: torch.randn(shape, generator=generator)  # noqa: E731
    bits = bits_per_dim(best, process, x_0, noise, threshold=None)
    assert bits.shape == (16,)
    # 65,536 pixels with a deviation of about a bit each: 4 standard errors
    assert bits.mean().item() == pytest.approx(entropy, abs=0.016)


def test_a_wrong_model_needs_more_bits():
    process = DiffusionProcess.from_schedule("cosine", 50, variance="fixed_small")
    generator = torch.Generator().manual_seed(0)
    x_0 = torch.zeros(4, 1, 8, 8)
    right = lambda x_t, t: gaussian_eps(process.alpha_bar[int(t[0])], 0.0, 0.01)(x_t)  # noqa: E731
    wrong = lambda x_t, t: gaussian_eps(process.alpha_bar[int(t[0])], 0.5, 0.01)(x_t)  # noqa: E731
    noise = lambda index: torch.randn(x_0.shape, generator=generator)  # noqa: E731
    assert (
        bits_per_dim(right, process, x_0, noise) < bits_per_dim(wrong, process, x_0, noise)
    ).all()


def test_bound_term_chooses_by_timestep():
    process = DiffusionProcess.from_schedule("cosine", variance="fixed_small")
    x_0 = torch.zeros(2, 1, 4, 4)
    noise = torch.ones_like(x_0)
    t = torch.tensor([0, 300])
    x_t = process.q_sample(x_0, t, noise)
    bits = bound_term(process, noise, x_0, x_t, t)
    assert bits[1].item() == pytest.approx(0, abs=1e-6)  # the true noise gives the true posterior
    assert bits[0] > 0.01
