"""The Gaussian diffusion process: its tables and their closed forms.

Symbols (Ho et al. 2020): x_0 is an image in [-1, 1], x_t the same after t steps of noise,
q(x_t | x_0) = N(sqrt(alpha_bar_t) x_0, (1 - alpha_bar_t) I), eps the noise in it, and
v = sqrt(alpha_bar_t) eps - sqrt(1 - alpha_bar_t) x_0 (Salimans & Ho 2022).

A timestep here is an *index* into this process, 0 to num_steps - 1, 0 the cleanest. A respaced
process keeps fewer of them; `network_timesteps` maps indices to the timesteps of training.
Tables are float64 and read-only; what multiplies images is rounded to float32 once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import InitVar, dataclass, field
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Float64, Int, Int64, Shaped
from numpy import ndarray
from torch import Tensor

from evalkit.core.errors import ConfigError
from generators.diffusion.respacing import (
    KARRAS,
    karras_timesteps,
    spaced_timesteps,
    step_count,
)
from generators.diffusion.schedules import REFERENCE_STEPS, betas_for
from generators.diffusion.thresholding import Threshold

Prediction = Literal["eps", "x_0", "v"]
Variance = Literal["fixed_small", "fixed_large", "learned_range"]
PURE_NOISE = 1e-60
"""An alpha_bar below it is 0: images in float32 times sqrt(1 / alpha_bar) would overflow."""


@dataclass(frozen=True, eq=False)
class Reverse:
    """The network's estimate of p(x_{t-1} | x_t)."""

    mean: Tensor
    """Of the Gaussian over x_{t-1}."""
    log_variance: Tensor
    """Its logarithmic variance, of the mean's shape."""
    x_0: Tensor
    """The predicted image, after thresholding."""


@dataclass(frozen=True, kw_only=True, eq=False)
class DiffusionProcess:
    """Frozen tables of one process, and how the network's output is interpreted."""

    betas: Float64[ndarray, " steps"]
    prediction: Prediction = "eps"
    """What the network predicts."""
    variance: Variance = "learned_range"
    """`learned_range`: the output's second half places log variance between its bounds."""
    timesteps: Int64[ndarray, " known"] | None = None
    """For each index the timestep the network was trained with; None: the index itself."""
    timestep_scale: float = 1.0
    """The network's input is timestep * scale (improved-diffusion's weights: 1000 / T)."""
    known_alpha_bar: InitVar[Float64[ndarray, " steps"] | None] = None
    """alpha_bar where it is known more precisely than from betas near 1; None: the product."""
    alpha_bar: Float64[ndarray, " steps"] = field(init=False)
    alpha_bar_prev: Float64[ndarray, " steps"] = field(init=False)
    posterior_variance: Float64[ndarray, " steps"] = field(init=False)
    posterior_log_variance: Float64[ndarray, " steps"] = field(init=False)
    """Clipped: the variance at index 0 is 0, so the value at index 1 replaces it."""

    def __post_init__(self, known_alpha_bar: Float64[ndarray, " steps"] | None) -> None:
        betas = np.array(self.betas, dtype=np.float64)
        if betas.ndim != 1 or not betas.size or not np.all((betas > 0) & (betas <= 1)):
            raise ConfigError("betas must be a non-empty list of numbers in (0, 1].")
        timesteps = np.arange(len(betas)) if self.timesteps is None else np.array(self.timesteps)
        if len(timesteps) != len(betas):
            raise ConfigError(
                f"A process has one timestep per beta, got {len(timesteps)} and {len(betas)}."
            )
        alpha_bar = np.cumprod(1 - betas) if known_alpha_bar is None else known_alpha_bar.copy()
        _check_signal(alpha_bar, self.prediction)
        alpha_bar_prev = np.append(1.0, alpha_bar[:-1])
        posterior_variance = betas * (1 - alpha_bar_prev) / (1 - alpha_bar)
        stand_in = posterior_variance[1] if len(betas) > 1 else betas[0]
        tables = {
            "betas": betas,
            "timesteps": timesteps.astype(np.int64),
            "alpha_bar": alpha_bar,
            "alpha_bar_prev": alpha_bar_prev,
            "posterior_variance": posterior_variance,
            "posterior_log_variance": np.log(np.append(stand_in, posterior_variance[1:])),
        }
        for name, table in tables.items():
            table.setflags(write=False)
            object.__setattr__(self, name, table)

    @classmethod
    def from_schedule(
        cls,
        schedule: str,
        num_steps: int = REFERENCE_STEPS,
        *,
        prediction: Prediction = "eps",
        variance: Variance = "learned_range",
        timestep_scale: float = 1.0,
    ) -> DiffusionProcess:
        """Build the process of a named schedule."""
        return cls(
            betas=betas_for(schedule, num_steps),
            prediction=prediction,
            variance=variance,
            timestep_scale=timestep_scale,
        )

    @classmethod
    def from_objective(
        cls,
        objective: Mapping[str, Any],
        *,
        prediction: Prediction | None = None,
        variance: Variance = "learned_range",
    ) -> DiffusionProcess:
        """Build the process of a recipe's objective, for training and for sampling.

        Args:
            objective: `schedule`, and `prediction` where that is not eps.
            prediction: Overrides the objective's, for a network with a fixed prediction.
            variance: How the network's architecture gives the variance.
        """
        return cls.from_schedule(
            objective["schedule"],
            prediction=prediction or objective.get("prediction", "eps"),
            variance=variance,
        )

    @property
    def num_steps(self) -> int:
        """Number of timesteps, T."""
        return len(self.betas)

    def respaced(self, spec: str | Sequence[int]) -> DiffusionProcess:
        """Return the process that visits fewer timesteps with the same alpha_bar at each.

        Args:
            spec: See `respacing`; or the indices to keep, ascending.
        """
        kept = self._kept(spec) if isinstance(spec, str) else tuple(spec)
        alpha_bar = self.alpha_bar[list(kept)]
        ratios = alpha_bar / np.append(1.0, alpha_bar[:-1])
        assert self.timesteps is not None
        return DiffusionProcess(
            betas=1 - ratios,
            prediction=self.prediction,
            variance=self.variance,
            timesteps=self.timesteps[list(kept)],
            timestep_scale=self.timestep_scale,
            known_alpha_bar=alpha_bar,
        )

    def _kept(self, spec: str) -> tuple[int, ...]:
        if spec.startswith(KARRAS):
            return karras_timesteps(self.alpha_bar, step_count(spec.removeprefix(KARRAS), spec))
        return spaced_timesteps(self.num_steps, spec)

    def network_timesteps(self, t: Int[Tensor, " batch"]) -> Shaped[Tensor, " batch"]:
        """Return the network's timesteps at indices `t`: integers unless they are rescaled."""
        assert self.timesteps is not None
        steps = _on_device(self.timesteps.tobytes(), "int64", t.device)[t]
        return steps if self.timestep_scale == 1.0 else steps.float() * self.timestep_scale

    # q: adding noise

    def q_sample(
        self,
        x_0: Float[Tensor, " batch *chw"],
        t: Int[Tensor, " batch"],
        noise: Float[Tensor, " batch *chw"],
    ) -> Float[Tensor, " batch *chw"]:
        """Compute x_t from x_0 and the noise (Ho et al. 2020, eq. 4)."""
        signal, sigma = self._signal_and_sigma(t, x_0)
        return signal * x_0 + sigma * noise

    def q_posterior(
        self,
        x_0: Float[Tensor, " batch *chw"],
        x_t: Float[Tensor, " batch *chw"],
        t: Int[Tensor, " batch"],
    ) -> tuple[Float[Tensor, " batch *chw"], Float[Tensor, " batch *chw"]]:
        """Compute mean and log variance of q(x_{t-1} | x_t, x_0) (Ho et al. 2020, eqs. 6 and 7)."""
        from_x_0 = self.betas * np.sqrt(self.alpha_bar_prev) / (1 - self.alpha_bar)
        from_x_t = (1 - self.alpha_bar_prev) * np.sqrt(1 - self.betas) / (1 - self.alpha_bar)
        mean = lookup(from_x_0, t, x_t) * x_0 + lookup(from_x_t, t, x_t) * x_t
        return mean, lookup(self.posterior_log_variance, t, x_t).expand_as(x_t)

    # Three equivalent predictions: eps, x_0, v

    def x_0_from_eps(self, x_t: Tensor, t: Tensor, eps: Tensor) -> Tensor:
        """Return x_0 = (x_t - sqrt(1 - alpha_bar) eps) / sqrt(alpha_bar); not at alpha_bar 0."""
        with np.errstate(divide="ignore"):  # of a timestep of pure noise, which is not looked up
            inverse = 1 / self.alpha_bar
        scale = lookup(np.sqrt(inverse), t, x_t)
        return scale * x_t - lookup(np.sqrt(inverse - 1), t, x_t) * eps

    def eps_from_x_0(self, x_t: Tensor, t: Tensor, x_0: Tensor) -> Tensor:
        """Return eps = (x_t - sqrt(alpha_bar) x_0) / sqrt(1 - alpha_bar).

        It is defined at alpha_bar 0 too, where x_t is the noise.
        """
        signal, sigma = self._signal_and_sigma(t, x_t)
        return (x_t - signal * x_0) / sigma

    def v_from(self, x_0: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """Return v = sqrt(alpha_bar) eps - sqrt(1 - alpha_bar) x_0 (Salimans & Ho 2022, app. D)."""
        signal, sigma = self._signal_and_sigma(t, x_0)
        return signal * noise - sigma * x_0

    def x_0_from_v(self, x_t: Tensor, t: Tensor, v: Tensor) -> Tensor:
        """Return x_0 = sqrt(alpha_bar) x_t - sqrt(1 - alpha_bar) v."""
        signal, sigma = self._signal_and_sigma(t, x_t)
        return signal * x_t - sigma * v

    def target(self, x_0: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """Return what the network should predict."""
        if self.prediction == "eps":
            return noise
        return x_0 if self.prediction == "x_0" else self.v_from(x_0, t, noise)

    def predicted_x_0(self, prediction: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """Return x_0 of the network's prediction, not thresholded."""
        if self.prediction == "eps":
            return self.x_0_from_eps(x_t, t, prediction)
        return prediction if self.prediction == "x_0" else self.x_0_from_v(x_t, t, prediction)

    # p: removing noise

    def split_output(self, output: Tensor) -> tuple[Tensor, Tensor | None]:
        """Split the output into the prediction and, if learned, the variance's interpolation."""
        if self.variance != "learned_range":
            return output, None
        prediction, placed = output.chunk(2, dim=1)
        return prediction, placed

    def p_mean_variance(
        self,
        output: Float[Tensor, "batch out_channels ..."],
        x_t: Float[Tensor, " batch *chw"],
        t: Int[Tensor, " batch"],
        *,
        threshold: Threshold | None = None,
    ) -> Reverse:
        """Return the Gaussian over x_{t-1} that the network's output describes.

        Args:
            output: What the network gave for x_t.
            x_t: The noisy images.
            t: Their indices.
            threshold: Applied to the predicted x_0.
        """
        prediction, placed = self.split_output(output)
        x_0 = self.predicted_x_0(prediction, x_t, t)
        if threshold is not None:
            x_0 = threshold(x_0)
        mean, small = self.q_posterior(x_0, x_t, t)
        return Reverse(mean, self._log_variance(small, placed, t), x_0)

    def _log_variance(self, small: Tensor, placed: Tensor | None, t: Tensor) -> Tensor:
        if self.variance == "fixed_small":
            return small
        if placed is None:
            large = np.append(np.exp(self.posterior_log_variance[:1]), self.betas[1:])
            return lookup(np.log(large), t, small).expand_as(small)
        # Nichol & Dhariwal 2021, eq. 15; the network's range is [-1, 1].
        fraction = (placed + 1) / 2
        return fraction * lookup(np.log(self.betas), t, small) + (1 - fraction) * small

    def _signal_and_sigma(self, t: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        signal = lookup(np.sqrt(self.alpha_bar), t, like)
        return signal, lookup(np.sqrt(1 - self.alpha_bar), t, like)


def _check_signal(alpha_bar: Float64[ndarray, " steps"], prediction: Prediction) -> None:
    """Check that every timestep tells something of the image, as far as sampling needs it.

    Only the last one may be pure noise (Lin et al. 2023: zero terminal SNR). A network that
    predicts eps says nothing of the image there.

    Raises:
        ConfigError: A process that no sampler could run.
    """
    if np.any(alpha_bar[:-1] < PURE_NOISE):
        index = int(np.argmin(alpha_bar[:-1]))
        raise ConfigError(
            f"alpha_bar is {alpha_bar[index]:.3g} at index {index} of {len(alpha_bar)}. Only the "
            "last one may be pure noise. Lower the betas before it."
        )
    if prediction == "eps" and alpha_bar[-1] < PURE_NOISE:
        raise ConfigError(
            f"alpha_bar is {alpha_bar[-1]:.3g} at the last timestep, which is pure noise: a "
            "prediction of eps says nothing of the image there. Predict v or x_0, or end the "
            "betas below 1."
        )


def lookup(table: Float64[ndarray, " steps"], t: Tensor, like: Tensor) -> Tensor:
    """Return entries `t` of a table in float32, shaped to multiply `like` (B, ...)."""
    entries = np.ascontiguousarray(table, dtype=np.float64).astype(np.float32)
    values = _on_device(entries.tobytes(), "float32", like.device)[t.to(like.device)]
    return values.view(-1, *[1] * (like.ndim - 1))


@lru_cache(maxsize=256)
def _on_device(entries: bytes, dtype: str, device: torch.device) -> Tensor:
    """Return a table on a device. It is copied there once: each copy would wait for the GPU."""
    with torch.inference_mode(False):  # training takes the same tables
        return torch.from_numpy(np.frombuffer(entries, dtype=dtype).copy()).to(device)
