"""Training losses and the variational bound; each image's loss apart, shape (batch,)."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from generators.diffusion.process import DiffusionProcess
from generators.diffusion.thresholding import Threshold, static_threshold

HALF_LEVEL = 1 / 255
"""Half the distance of two of the 256 levels in [-1, 1]."""


def simple_loss(
    process: DiffusionProcess,
    output: Float[Tensor, "batch out_channels ..."],
    x_0: Float[Tensor, " batch *chw"],
    t: Int[Tensor, " batch"],
    noise: Float[Tensor, " batch *chw"],
) -> Float[Tensor, " batch"]:
    """Compute the mean squared error of the prediction (Ho et al. 2020, eq. 14)."""
    prediction, _ = process.split_output(output)
    return _mean(torch.square(process.target(x_0, t, noise) - prediction))


def hybrid_loss(
    process: DiffusionProcess,
    output: Float[Tensor, "batch out_channels ..."],
    x_0: Float[Tensor, " batch *chw"],
    x_t: Float[Tensor, " batch *chw"],
    t: Int[Tensor, " batch"],
    noise: Float[Tensor, " batch *chw"],
    *,
    weight: Float[Tensor, " batch"] | float = 1.0,
) -> Float[Tensor, " batch"]:
    """Add to the simple loss the bound with a detached mean (Nichol & Dhariwal 2021, eq. 16).

    The bound sees the mean detached, and is weighted T / 1000: with one t drawn an image that is
    lambda = 0.001 on the sum over all timesteps. `weight` multiplies the simple loss alone.
    """
    prediction, placed = process.split_output(output)
    assert placed is not None, "the hybrid loss is for a learned variance"
    frozen = torch.cat([prediction.detach(), placed], dim=1)
    bound = bound_term(process, frozen, x_0, x_t, t)
    simple = simple_loss(process, output, x_0, t, noise)
    return weight * simple + bound * (process.num_steps / 1000)


def velocity_weight(
    process: DiffusionProcess, t: Int[Tensor, " batch"], *, cap: float
) -> Float[Tensor, " batch"]:
    """Weight an error in eps as the same error in v: 1 / alpha_bar, at most `cap`.

    The plain loss on eps hardly sees what a caption decides, which happens where noise prevails
    (Salimans & Ho 2022, section 4: weighting "SNR + 1"); without a cap the last timesteps would
    drown all others.
    """
    with np.errstate(divide="ignore"):  # pure noise gets the cap
        weights = torch.from_numpy(1 / process.alpha_bar).float().clamp(max=cap)
    return weights.to(t.device)[t]


def bound_term(
    process: DiffusionProcess,
    output: Float[Tensor, "batch out_channels ..."],
    x_0: Float[Tensor, " batch *chw"],
    x_t: Float[Tensor, " batch *chw"],
    t: Int[Tensor, " batch"],
    *,
    threshold: Threshold | None = None,
) -> Float[Tensor, " batch"]:
    """Compute one timestep's term of the variational bound, in bits per dimension.

    For t > 0 the divergence of the reverse step from the posterior; for t = 0 minus the
    log-probability of the image's 256 levels (Ho et al. 2020, eqs. 5 and 13).
    """
    true_mean, true_log_variance = process.q_posterior(x_0, x_t, t)
    reverse = process.p_mean_variance(output, x_t, t, threshold=threshold)
    divergence = _mean(
        gaussian_kl(true_mean, true_log_variance, reverse.mean, reverse.log_variance)
    )
    decoder = -_mean(level_log_probability(x_0, reverse.mean, 0.5 * reverse.log_variance))
    return torch.where(t == 0, decoder, divergence) / math.log(2)


def prior_term(
    process: DiffusionProcess, x_0: Float[Tensor, " batch *chw"]
) -> Float[Tensor, " batch"]:
    """Compute KL(q(x_T | x_0) || N(0, I)), in bits per dimension."""
    last = float(process.alpha_bar[-1])
    mean = math.sqrt(last) * x_0
    log_variance = torch.full_like(x_0, math.log(1 - last))
    zeros = torch.zeros_like(x_0)
    return _mean(gaussian_kl(mean, log_variance, zeros, zeros)) / math.log(2)


def bits_per_dim(
    model: Callable[[Tensor, Tensor], Tensor],
    process: DiffusionProcess,
    x_0: Float[Tensor, " batch *chw"],
    noise_at: Callable[[int], Tensor],
    *,
    threshold: Threshold | None = static_threshold,
) -> Float[Tensor, " batch"]:
    """Compute the variational bound on -log2 p(x_0) per dimension, one noise per timestep.

    Args:
        model: (x_t, network timesteps) to output.
        process: All timesteps, or a respaced process.
        x_0: Images in [-1, 1] on the 256 levels.
        noise_at: Standard normal noise of x_0's shape for a timestep's index.
        threshold: Applied to the predicted x_0.

    Returns:
        Bits per dimension, lower is better.
    """
    total = prior_term(process, x_0)
    for index in range(process.num_steps):
        t = torch.full((len(x_0),), index, device=x_0.device)
        x_t = process.q_sample(x_0, t, noise_at(index))
        output = model(x_t, process.network_timesteps(t))
        total = total + bound_term(process, output, x_0, x_t, t, threshold=threshold)
    return total


def gaussian_kl(
    mean_1: Tensor, log_variance_1: Tensor, mean_2: Tensor, log_variance_2: Tensor
) -> Tensor:
    """Compute KL(N_1 || N_2) per element, in nats."""
    return 0.5 * (
        log_variance_2
        - log_variance_1
        + torch.exp(log_variance_1 - log_variance_2)
        + torch.square(mean_1 - mean_2) * torch.exp(-log_variance_2)
        - 1
    )


def level_log_probability(x_0: Tensor, mean: Tensor, log_sigma: Tensor) -> Tensor:
    """Compute the log of the mass that a Gaussian puts on each pixel's level, in nats.

    The lowest and the highest level take the whole tail. The normal distribution function is the
    tanh approximation the released code uses (error below 2e-4).
    """
    above = _normal_cdf((x_0 - mean + HALF_LEVEL) * torch.exp(-log_sigma))
    below = _normal_cdf((x_0 - mean - HALF_LEVEL) * torch.exp(-log_sigma))
    mass = torch.where(x_0 < -0.999, above, torch.where(x_0 > 0.999, 1 - below, above - below))
    return mass.clamp(min=1e-12).log()


def _normal_cdf(x: Tensor) -> Tensor:
    return 0.5 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def _mean(x: Tensor) -> Tensor:
    return x.flatten(1).mean(dim=1)
