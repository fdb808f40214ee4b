"""Shared parts of systems with several networks: stages, prompts and samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from jaxtyping import Float
from torch import Tensor, nn

from generators.base import GeneratorSpec, Request, Sample
from generators.diffusion.process import DiffusionProcess, Variance
from generators.errors import UnsupportedRequestError
from generators.finite import BatchFaults, samples_of
from generators.numerics import ready

NetworkT = TypeVar("NetworkT", bound=nn.Module)


@dataclass(frozen=True, eq=False)
class Stage(Generic[NetworkT]):
    """A diffusion network and its process."""

    network: NetworkT
    process: DiffusionProcess
    """The process of its training, with all timesteps."""
    residual_scale: float | None = None
    """Of an upsampler that makes only what the enlarged image lacks; None: it makes the image."""

    @classmethod
    def from_objective(
        cls,
        network: NetworkT,
        objective: Mapping[str, Any],
        *,
        device: str = "cpu",
        variance: Variance = "learned_range",
    ) -> Stage[NetworkT]:
        """Build a stage from a network and the process that its recipe's objective names."""
        process = DiffusionProcess.from_objective(objective, variance=variance)
        return cls(ready(network, device), process, objective.get("residual_scale"))

    def on(self, device: str) -> Stage[NetworkT]:
        """Return the stage with its network on a device."""
        return Stage(ready(self.network, device), self.process, self.residual_scale)


def prompts_of(spec: GeneratorSpec, requests: Sequence[Request]) -> list[str]:
    """Return the prompts of a batch.

    Raises:
        UnsupportedRequestError: A request has no prompt.
    """
    prompts = [request.prompt for request in requests if request.prompt is not None]
    if len(prompts) < len(requests):
        raise UnsupportedRequestError(f"{spec.name} needs a prompt in every request.")
    return prompts


def captioned_samples(
    images: Float[Tensor, "batch 3 height width"],
    truncated: Sequence[bool],
    faults: BatchFaults | None = None,
) -> list[Sample]:
    """Make samples of images in [-1, 1], with a note where the caption was truncated."""
    return samples_of(images, faults or BatchFaults(len(images)), truncation_notes(truncated))


def truncation_notes(truncated: Sequence[bool]) -> list[tuple[str, ...]]:
    """Return the notes of each caption: whether it was truncated."""
    return [("caption truncated",) if cut else () for cut in truncated]
