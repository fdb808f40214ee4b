"""Samplers: from noise x_T to an image x_0, each a function of a model and a process.

Every sampler takes a `Denoiser` (condition and guidance already in it), the noise to start from, a
process respaced to the steps to make, one rng per image, and `SamplerOptions`. `SAMPLERS`
is the table of them; another package adds rows by entry points in `evalkit.samplers`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from evalkit.core.errors import ConfigError
from evalkit.core.registry import Catalog
from generators.diffusion.guidance import Denoiser, Gradient
from generators.diffusion.noise import draw_noise
from generators.diffusion.process import PURE_NOISE, DiffusionProcess
from generators.diffusion.respacing import KARRAS
from generators.diffusion.thresholding import Threshold, static_threshold

Images = Float[Tensor, " batch *chw"]
Rngs = Sequence[torch.Generator]
Progress = Callable[[int, int], None]
"""Called after each step with the steps made and the steps to make."""


@dataclass(frozen=True, kw_only=True)
class SamplerOptions:
    """Options of a sampler."""

    eta: float = 0.0
    """Share of fresh noise in each step of DDIM; 0 is deterministic."""
    threshold: Threshold | None = static_threshold
    """Keeps the predicted x_0 in range."""
    gradient: Gradient | None = None
    """A noisy classifier's, or a noised CLIP's."""
    progress: Progress | None = None
    """Called after each step."""


PLAIN = SamplerOptions()
UNBOUNDED = SamplerOptions(threshold=None)
Sampler = Callable[[Denoiser, Tensor, DiffusionProcess, Rngs, SamplerOptions], Tensor]


@torch.no_grad()
def sample_ancestral(
    model: Denoiser,
    x_T: Images,
    process: DiffusionProcess,
    rngs: Rngs,
    options: SamplerOptions = PLAIN,
) -> Images:
    """Draw from p(x_{t-1} | x_t) step by step (Ho et al. 2020, algorithm 2).

    A gradient g shifts the mean by the variance times g (Dhariwal & Nichol 2021, algorithm 1).
    """
    x = x_T
    for index, t in _steps(x, process, options):
        network_t = process.network_timesteps(t)
        output = model(x, network_t).float()
        reverse = process.p_mean_variance(output, x, t, threshold=options.threshold)
        mean = reverse.mean
        if options.gradient is not None:
            shift = options.gradient(x, network_t).float()
            mean = mean + reverse.log_variance.exp() * shift
        x = mean
        if index:
            noise = draw_noise(rngs, x.shape[1:], x.device)
            x = mean + torch.exp(0.5 * reverse.log_variance) * noise
    return x


@torch.no_grad()
def sample_ddim(
    model: Denoiser,
    x_T: Images,
    process: DiffusionProcess,
    rngs: Rngs = (),
    options: SamplerOptions = PLAIN,
) -> Images:
    """Step through the implicit model (Song et al. 2021, eq. 12); eta 0 is deterministic.

    A gradient g shifts eps by -sqrt(1 - alpha_bar) g (Dhariwal & Nichol 2021, algorithm 2).
    """
    x = x_T
    for index, _ in _steps(x, process, options):
        x_0, eps = _x_0_and_eps(model, x, index, process, options)
        alpha_bar, previous = process.alpha_bar[index], process.alpha_bar_prev[index]
        sigma = options.eta * np.sqrt((1 - previous) / (1 - alpha_bar) * (1 - alpha_bar / previous))
        x = float(np.sqrt(previous)) * x_0 + float(np.sqrt(1 - previous - sigma**2)) * eps
        if index and options.eta:
            x = x + float(sigma) * draw_noise(rngs, x.shape[1:], x.device)
    return x


@torch.no_grad()
def invert_ddim(
    model: Denoiser, x_0: Images, process: DiffusionProcess, *, progress: Progress | None = None
) -> Images:
    """Find the noise x_T that DDIM maps to an image (Dhariwal & Nichol 2021, appendix F).

    DDIM's steps are walked the other way, each with the eps of the cleaner end; so the way back is
    exact in the limit of many steps. Nothing is thresholded, which would lose information.

    Args:
        model: The denoiser, condition bound, best unguided.
        x_0: Images in [-1, 1].
        process: Respaced to the steps to walk.
        progress: Called after each step.
    """
    x = x_0  # at timestep 0, whose noise is too little to see
    for index in range(1, process.num_steps):
        image, eps = _x_0_and_eps(model, x, index - 1, process, UNBOUNDED)
        alpha_bar = process.alpha_bar[index]
        x = float(np.sqrt(alpha_bar)) * image + float(np.sqrt(1 - alpha_bar)) * eps
        if progress is not None:
            progress(index, process.num_steps - 1)
    return x


@torch.no_grad()
def sample_dpm_solver_pp_2m(
    model: Denoiser,
    x_T: Images,
    process: DiffusionProcess,
    rngs: Rngs = (),
    options: SamplerOptions = PLAIN,
) -> Images:
    """Sample by DPM-Solver++(2M), multistep, second order in x_0 (Lu et al. 2022, algorithm 2).

    With lambda = log(sqrt(alpha_bar) / sqrt(1 - alpha_bar)) and h the step in lambda. The first
    step is of first order, and so is the last, whose h is infinite: it goes to x_0.
    """
    alpha_bar = np.append(1.0, process.alpha_bar)  # index i + 1 is timestep i; 0 is the clean image
    signal, sigma = np.sqrt(alpha_bar), np.sqrt(1 - alpha_bar)
    with np.errstate(divide="ignore"):  # a last timestep of pure noise is at minus infinity
        lambdas = np.log(signal[1:] / sigma[1:])
    x, last_x_0 = x_T, None
    for index, _ in _steps(x, process, options):
        x_0, _ = _x_0_and_eps(model, x, index, process, options, clip_guided=True)
        direction = x_0
        if last_x_0 is not None and index:
            h, last_h = lambdas[index - 1] - lambdas[index], lambdas[index] - lambdas[index + 1]
            direction = x_0 + float(h / last_h / 2) * (x_0 - last_x_0)
        ratio = sigma[index] / sigma[index + 1]  # 0 in the last step
        weight = signal[index] - ratio * signal[index + 1]  # = -signal (exp(-h) - 1)
        x = float(ratio) * x + float(weight) * direction
        last_x_0 = x_0
    return x


@torch.no_grad()
def sample_heun(
    model: Denoiser,
    x_T: Images,
    process: DiffusionProcess,
    rngs: Rngs = (),
    options: SamplerOptions = PLAIN,
) -> Images:
    """Solve the probability-flow ODE by Heun's method (Karras et al. 2022, algorithm 1).

    In the variable z = x_t / sqrt(alpha_bar) with noise sigma = sqrt(1 / alpha_bar - 1), where
    dz / dsigma = eps. Two evaluations a step, the last step has one. A first step from pure noise,
    where sigma is infinite, is Euler's, which in x_t is DDIM's.
    """
    alpha_bar = np.append(1.0, process.alpha_bar)
    with np.errstate(divide="ignore"):
        sigmas = np.sqrt(1 / alpha_bar - 1)
    endless = alpha_bar[-1] < PURE_NOISE
    z = x_T if endless else x_T * float(1 / np.sqrt(alpha_bar[-1]))

    def slope(z: Tensor, index: int) -> Tensor:
        x_t = z * float(np.sqrt(process.alpha_bar[index]))
        return _x_0_and_eps(model, x_t, index, process, options, clip_guided=True)[1]

    for index, _ in _steps(z, process, options):
        if endless and index == process.num_steps - 1:
            x_0, eps = _x_0_and_eps(model, x_T, index, process, options, clip_guided=True)
            z = x_0 + float(sigmas[index]) * eps
            continue
        step = float(sigmas[index] - sigmas[index + 1])
        eps = slope(z, index)
        euler = z + step * eps
        z = z + step * 0.5 * (eps + slope(euler, index - 1)) if index else euler
    return z


def _x_0_and_eps(
    model: Denoiser,
    x_t: Tensor,
    index: int,
    process: DiffusionProcess,
    options: SamplerOptions,
    *,
    clip_guided: bool = False,
) -> tuple[Tensor, Tensor]:
    """Return the predicted image, thresholded and shifted by the gradient, and its eps.

    The shift of x_0 is (1 - alpha_bar) / sqrt(alpha_bar) times the gradient, which is huge where
    alpha_bar is near 0. ADM's DDIM leaves it at that; `clip_guided` brings it back in range.
    """
    t = _indices(x_t, index)
    network_t = process.network_timesteps(t)
    prediction, _ = process.split_output(model(x_t, network_t).float())
    x_0 = process.predicted_x_0(prediction, x_t, t)
    if options.threshold is not None:
        x_0 = options.threshold(x_0)
    eps = process.eps_from_x_0(x_t, t, x_0)
    if options.gradient is None:
        return x_0, eps
    alpha_bar = process.alpha_bar[index]
    if alpha_bar < PURE_NOISE:  # x_t is independent of the image, so the gradient is 0
        return x_0, eps
    sigma = float(np.sqrt(1 - alpha_bar))
    eps = eps - sigma * options.gradient(x_t, network_t).float()
    x_0 = process.x_0_from_eps(x_t, t, eps)
    if options.threshold is None or not clip_guided:
        return x_0, eps
    x_0 = options.threshold(x_0)
    return x_0, process.eps_from_x_0(x_t, t, x_0)


def _steps(
    x: Tensor, process: DiffusionProcess, options: SamplerOptions
) -> Iterator[tuple[int, Tensor]]:
    """Yield each index of a process, the noisiest first, as a number and for the batch.

    Progress is reported when a step is done, that is, when the next one is requested.
    """
    for index in reversed(range(process.num_steps)):
        yield index, _indices(x, index)
        if options.progress is not None:
            options.progress(process.num_steps - index, process.num_steps)


def _indices(x: Tensor, index: int) -> Tensor:
    return torch.full((len(x),), index, dtype=torch.long, device=x.device)


@dataclass(frozen=True, kw_only=True)
class SamplerRow:
    """One sampler, chosen by name."""

    function: Sampler
    """Takes the model, the noise to start from, the respaced process, one rng per image and
    the options; returns the images."""
    paper: str
    stochastic: bool
    """Whether it draws noise at each step by default."""
    takes_eta: bool = False
    """Whether it accepts the option eta."""
    least_steps: int = 1
    """Minimum number of network evaluations."""
    most_steps: int | None = None
    """Maximum number of network evaluations; None: as many as the process allows."""
    respacing: Callable[[int], str] = str
    """From a number of evaluations to a respacing, as `diffusion.respacing` reads it."""


def _alike_in_noise(steps: int) -> str:
    """Space timesteps by noise; Heun evaluates the network twice a step, once in the last."""
    return f"{KARRAS}{(steps + 1) // 2}"


SAMPLERS: dict[str, SamplerRow] = {
    "ancestral": SamplerRow(
        function=sample_ancestral, stochastic=True, paper="Ho et al. 2020, algorithm 2"
    ),
    "ddim": SamplerRow(
        function=sample_ddim, stochastic=False, takes_eta=True, paper="Song et al. 2021, eq. 12"
    ),
    "dpm++2m": SamplerRow(
        function=sample_dpm_solver_pp_2m, stochastic=False, paper="Lu et al. 2022, algorithm 2"
    ),
    "heun": SamplerRow(
        function=sample_heun,
        stochastic=False,
        respacing=_alike_in_noise,
        paper="Karras et al. 2022, algorithm 1",
    ),
}

CATALOG = Catalog("samplers", SAMPLERS, SamplerRow)
"""Built-in samplers and those of other packages."""
SAMPLER_NAMES = tuple(CATALOG)
"""Samplers that a diffusion stage accepts."""


def process_for(process: DiffusionProcess, sampler: str, steps: int | str) -> DiffusionProcess:
    """Return the process with the timesteps that a sampler visits.

    Evenly spread, but for Heun's method: that one needs steps that are alike in noise. With even
    ones it fails, since the first goes from sigma 20,000 to about 20 on a cosine schedule.

    Args:
        process: All timesteps.
        sampler: A name of `CATALOG`.
        steps: Number of evaluations of the network, or a respacing as text.

    Raises:
        UnknownNameError: The sampler does not exist.
        ConfigError: The sampler does not allow this number of steps.
    """
    if isinstance(steps, str):
        return process.respaced(steps)
    row = CATALOG[sampler]
    if steps < row.least_steps or (row.most_steps is not None and steps > row.most_steps):
        most = "" if row.most_steps is None else f", at most {row.most_steps}"
        raise ConfigError(
            f"The sampler {sampler} needs at least {row.least_steps} steps{most}, got {steps}."
        )
    return process.respaced(row.respacing(steps))


def sample(
    sampler: str,
    model: Denoiser,
    x_T: Images,
    process: DiffusionProcess,
    rngs: Rngs,
    options: SamplerOptions = PLAIN,
) -> Images:
    """Sample by a sampler's name.

    Raises:
        UnknownNameError: The sampler does not exist.
        ConfigError: The sampler does not accept eta.
    """
    row = CATALOG[sampler]
    if options.eta and not row.takes_eta:
        having = ", ".join(name for name, own in SAMPLERS.items() if own.takes_eta)
        raise ConfigError(
            f"The sampler {sampler} has no eta, got {options.eta}; samplers with eta: {having}."
        )
    return row.function(model, x_T, process, rngs, options)
