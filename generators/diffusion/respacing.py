"""Which of the trained timesteps a sampler visits (Nichol & Dhariwal 2021, section 4; DDIM).

A spec is a text: `"250"` spreads 250 steps evenly over all; `"10,15,20"` splits the timesteps into
as many equal sections and spreads that many steps in each; `"ddim25"` strides by a whole number;
`"fast27"` is GLIDE's choice for its upsampler. `"karras18"` depends on the noise, not on t: see
`karras_timesteps`.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64
from numpy import ndarray

from evalkit.core.errors import ConfigError

FAST27_SECTIONS = "10,10,3,2,2"
KARRAS = "karras"
RHO = 7.0
SIGMA_MAX = 80.0


def spaced_timesteps(num_steps: int, spec: str) -> tuple[int, ...]:
    """Return the timesteps to keep, ascending.

    Args:
        num_steps: Number of timesteps T of the trained process.
        spec: See the module docstring.

    Raises:
        ConfigError: The spec can't be read, or has more steps than there are.

    >>> spaced_timesteps(1000, "4")
    (0, 333, 666, 999)
    >>> spaced_timesteps(1000, "ddim4")
    (0, 250, 500, 750)
    """
    if spec == "fast27":
        return _fast27(num_steps)
    if spec.startswith("ddim"):
        return _strided(num_steps, step_count(spec.removeprefix("ddim"), spec), spec)
    counts = [step_count(part, spec) for part in spec.split(",")]
    return _sections(num_steps, counts, spec)


def karras_timesteps(alpha_bar: Float64[ndarray, " steps"], count: int) -> tuple[int, ...]:
    """Return timesteps with the noise of Karras et al. 2022, eq. 5: rho 7, sigma at most 80.

    Here sigma = sqrt(1 / alpha_bar - 1). Solvers of second order need steps that are alike; the
    last timesteps of a cosine schedule, with sigma up to 20,000, are not.

    Args:
        alpha_bar: Of the process that is to be respaced.
        count: Number of steps.

    Raises:
        ConfigError: More steps than there are timesteps.
    """
    num_steps = len(alpha_bar)
    if not 1 <= count <= num_steps:
        raise ConfigError(f"Respacing {KARRAS}{count} must have 1 to {num_steps} steps.")
    with np.errstate(divide="ignore"):  # pure noise is at infinity
        sigmas = np.sqrt(1 / alpha_bar - 1)
    ends = np.array([sigmas[0], min(SIGMA_MAX, sigmas[-1])]) ** (1 / RHO)
    wanted = np.linspace(ends[0], ends[1], count) ** RHO if count > 1 else ends[1:] ** RHO
    nearest = np.rint(np.interp(np.log(wanted), np.log(sigmas), np.arange(num_steps)))
    order = np.arange(count)
    # distinct: each at least one above the one before, and room for those that follow
    distinct = np.maximum.accumulate(nearest - order) + order
    return tuple(int(t) for t in np.minimum(distinct, num_steps - count + order))


def _fast27(num_steps: int) -> tuple[int, ...]:
    """Take the last step a little early: at T - 1 nothing of the image is left."""
    steps = set(spaced_timesteps(num_steps, FAST27_SECTIONS))
    steps.remove(num_steps - 1)
    steps.add(num_steps - 3)
    return tuple(sorted(steps))


def _strided(num_steps: int, count: int, spec: str) -> tuple[int, ...]:
    for stride in range(1, num_steps):
        steps = tuple(range(0, num_steps, stride))
        if len(steps) == count:
            return steps
    raise ConfigError(
        f"Respacing {spec!r} is impossible: no whole stride makes {count} of {num_steps} steps. "
        f"Use {str(count)!r} for uneven strides."
    )


def _sections(num_steps: int, counts: list[int], spec: str) -> tuple[int, ...]:
    size, extra = divmod(num_steps, len(counts))
    steps: list[int] = []
    start = 0
    for index, count in enumerate(counts):
        length = size + (index < extra)
        if count > length:
            raise ConfigError(
                f"Respacing {spec!r} has {count} steps in a section of {length} "
                f"({num_steps} timesteps in {len(counts)} sections)."
            )
        stride = (length - 1) / (count - 1) if count > 1 else 1.0
        position = 0.0  # summed up, not multiplied: rounds as the released code does
        for _ in range(count):
            steps.append(start + round(position))
            position += stride
        start += length
    return tuple(steps)


def step_count(text: str, spec: str) -> int:
    """Read a number of steps inside a spec."""
    if not text.strip().isdecimal() or int(text) < 1:
        raise ConfigError(
            f"Respacing {spec!r} is unknown, expected '250', '10,15,20', 'ddim25', 'karras18' or "
            "'fast27'."
        )
    return int(text)
