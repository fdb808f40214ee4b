"""The diffusion process for single numbers, straight from the papers' equations."""

import math
from itertools import pairwise


def alpha_bar(betas, t):
    """Product of 1 - beta up to t; 1 before the first step."""
    product = 1.0
    for beta in betas[: t + 1]:
        product *= 1.0 - beta
    return product


def posterior(betas, t, x_0, x_t):
    """Mean and variance of q(x_{t-1} | x_t, x_0) by Bayes' rule on two Gaussians.

    x_{t-1} ~ N(sqrt(a') x_0, 1 - a') a priori, and x_t | x_{t-1} ~ N(sqrt(1 - beta) x_{t-1}, beta);
    precisions add, and the mean is the precision-weighted one.
    """
    before = alpha_bar(betas, t - 1)
    beta = betas[t]
    precision = 1 / (1 - before) + (1 - beta) / beta
    weighted = math.sqrt(before) * x_0 / (1 - before) + math.sqrt(1 - beta) * x_t / beta
    return weighted / precision, 1 / precision


def gaussian_eps(alpha, mean, variance):
    """The best eps for data N(mean, variance): a function of x_t, in closed form.

    x_t = sqrt(a) x_0 + sqrt(1 - a) eps is Gaussian, and so E[eps | x_t] is linear in it.
    """
    total = alpha * variance + 1 - alpha
    return lambda x: math.sqrt(1 - alpha) * (x - math.sqrt(alpha) * mean) / total


def gaussian_reverse_variance(betas, t, variance):
    """Variance of q(x_{t-1} | x_t): the posterior's, and that of x_0 through its mean."""
    a = alpha_bar(betas, t)
    of_x_0 = variance * (1 - a) / (a * variance + 1 - a)
    if t == 0:
        return of_x_0
    mean_at_1, posterior_variance = posterior(betas, t, 1.0, 0.0)
    slope = mean_at_1 - posterior(betas, t, 0.0, 0.0)[0]
    return posterior_variance + slope**2 * of_x_0


def ancestral_moments(betas, mean, variance):
    """Mean and variance that ancestral sampling gives data N(mean, variance), step by step.

    With the best denoiser each step is linear in x_t, so both follow by recursion from N(0, 1).
    """
    m, v = 0.0, 1.0
    for t in reversed(range(len(betas))):
        a = alpha_bar(betas, t)
        gain = math.sqrt(a) * variance / (a * variance + 1 - a)  # of E[x_0 | x_t]

        def step(x, t=t, a=a, gain=gain):
            x_0 = mean + gain * (x - math.sqrt(a) * mean)
            return posterior(betas, t, x_0, x) if t else (x_0, 0.0)

        slope = step(1.0)[0] - step(0.0)[0]
        m, v = step(m)[0], slope**2 * v + step(m)[1]
    return m, v


def levels_entropy_bits(mean, sigma):
    """Entropy in bits of a Gaussian rounded to the 256 levels in [-1, 1]."""

    def cdf(x):
        return 0.5 * (1 + math.erf((x - mean) / sigma / math.sqrt(2)))

    edges = [-math.inf, *(-1 + (2 * i + 1) / 255 for i in range(255)), math.inf]
    masses = [cdf(high) - cdf(low) for low, high in pairwise(edges)]
    return -sum(p * math.log2(p) for p in masses if p > 0)
