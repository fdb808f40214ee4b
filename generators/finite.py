"""Non-finite outputs: which images of a batch a network spoiled, and at which stage first.

A network may return NaN or infinity for one image of a batch: in half precision, from damaged
weights, at an extreme guidance scale. Such an image is a failed sample with a reason. Later stages
get zeros in its place, so that the other images of the batch are made as if it were not there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from evalkit.core.progress import advance
from generators.base import Sample
from generators.pixels import to_uint8


class BatchFaults:
    """The images of a batch for which some network returned NaN or infinity.

    Args:
        num_images: Size of the batch.

    >>> faults = BatchFaults(2)
    >>> _ = faults.at("base").see(torch.tensor([[0.0], [float("nan")]]))
    >>> faults.reasons()
    ['', 'the network of stage base returned NaN or infinity']
    """

    def __init__(self, num_images: int) -> None:
        self.num_images = num_images
        self._by_stage: dict[str, Tensor] = {}

    def at(self, stage: str) -> StageWatch:
        """Return the watch of one stage, by its name."""
        return StageWatch(self, stage)

    def note(self, stage: str, rows: Bool[Tensor, " rows"]) -> None:
        """Note which rows of a stage's output are not finite.

        Args:
            stage: Its name.
            rows: A whole multiple of the batch: guidance evaluates both halves at once.
        """
        bad = rows.view(-1, self.num_images).any(dim=0)
        known = self._by_stage.get(stage)
        self._by_stage[stage] = bad if known is None else known | bad

    def failed(self) -> Bool[Tensor, " batch"]:
        """Return which images have failed so far, on the CPU."""
        found = torch.zeros(self.num_images, dtype=torch.bool)
        for bad in self._by_stage.values():
            found |= bad.cpu()
        return found

    def reasons(self) -> list[str]:
        """Return for each image why it failed, by the first stage that did; empty if it did not."""
        reasons = [""] * self.num_images
        for stage, bad in self._by_stage.items():
            for index in bad.nonzero().flatten().tolist():
                reasons[index] = (
                    reasons[index] or f"the network of stage {stage} returned NaN or infinity"
                )
        return reasons


@dataclass(frozen=True, eq=False)
class StageWatch:
    """Looks at everything that the network of one stage returns."""

    faults: BatchFaults
    stage: str

    def see(self, values: Tensor) -> Tensor:
        """Note the rows that are not finite; return the values unchanged."""
        self.faults.note(self.stage, ~torch.isfinite(values).flatten(1).all(dim=1))
        return values

    def mend(self, values: Tensor) -> Tensor:
        """Note the rows that are not finite; return the values with zeros for failed images."""
        failed = (~torch.isfinite(self.see(values)).flatten(1).all(dim=1)).cpu()
        rows = (failed.view(-1, self.faults.num_images) | self.faults.failed()).flatten()
        if not bool(rows.any()):
            return values
        return values.masked_fill(rows.to(values.device).view(-1, *[1] * (values.ndim - 1)), 0)


@contextmanager
def watching(network: nn.Module, watch: StageWatch, steps: int | None = None) -> Iterator[None]:
    """Watch a network that other code calls, such as one inside a pipeline of diffusers.

    Args:
        network: The network.
        watch: Sees all that it returns.
        steps: How often it will be called, for progress; None: no progress is shown.
    """
    calls = 0

    def look(module: nn.Module, inputs: Any, output: Any) -> None:
        nonlocal calls
        del module, inputs
        watch.see(output if isinstance(output, Tensor) else output[0])
        calls += 1
        if steps is not None:
            advance(min(calls, steps), steps)

    handle = network.register_forward_hook(look)
    try:
        yield
    finally:
        handle.remove()


def samples_of(
    images: Float[Tensor, "batch 3 height width"],
    faults: BatchFaults,
    notes: Sequence[tuple[str, ...]] = (),
) -> list[Sample]:
    """Make samples of images in [-1, 1]: failed ones where a network returned NaN or infinity.

    Args:
        images: What the last stage made.
        faults: What the networks of all stages returned.
        notes: Of each image; none if empty.
    """
    pixels = to_uint8(faults.at("output").mend(images)).cpu().numpy()
    each = notes or [()] * len(pixels)
    return [
        Sample(image=None, status="failed", reason=reason, notes=note)
        if reason
        else Sample(image=image, notes=note)
        for image, reason, note in zip(pixels, faults.reasons(), each, strict=True)
    ]
