"""Noise schedules: beta_t for t = 0 .. T-1, float64.

alpha_t = 1 - beta_t, and alpha_bar_t is the product of all alphas up to t.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from jaxtyping import Float64
from numpy import ndarray

from evalkit.core.errors import ConfigError

Schedule = Literal["linear", "cosine"]
REFERENCE_STEPS = 1000
"""The number of steps of DDPM's linear schedule; other numbers scale both ends."""
MAX_BETA = 0.999


def betas_for(schedule: str, num_steps: int) -> Float64[ndarray, " steps"]:
    """Return the betas of a named schedule.

    Raises:
        ConfigError: Unknown name, or too few steps for the schedule.

    >>> betas_for("linear", 1000)[[0, -1]].tolist()
    [0.0001, 0.02]
    """
    if schedule == "linear":
        return linear_betas(num_steps)
    if schedule == "cosine":
        return cosine_betas(num_steps)
    raise ConfigError(f"Unknown noise schedule {schedule!r}; known: linear, cosine.")


def linear_betas(num_steps: int) -> Float64[ndarray, " steps"]:
    """Go from 1e-4 to 0.02 (Ho et al. 2020, section 4), both times 1000 / T for another T."""
    scale = REFERENCE_STEPS / num_steps
    if scale * 0.02 >= 1:
        raise ConfigError(f"A linear schedule needs more than 20 steps, got {num_steps}.")
    return np.linspace(scale * 1e-4, scale * 0.02, num_steps, dtype=np.float64)


def cosine_betas(num_steps: int) -> Float64[ndarray, " steps"]:
    """Make alpha_bar a squared cosine (Nichol & Dhariwal 2021, eq. 17); betas at most 0.999."""
    if num_steps < 1:
        raise ConfigError(f"A schedule needs at least 1 step, got {num_steps}.")
    alpha_bar = [
        math.cos((i / num_steps + 0.008) / 1.008 * math.pi / 2) ** 2 for i in range(num_steps + 1)
    ]
    ratios = np.array(alpha_bar[1:]) / np.array(alpha_bar[:-1])
    return np.minimum(1 - ratios, MAX_BETA)
