"""A weights file in the format of the Inception-2015 network, with seeded random values."""

from __future__ import annotations

from pathlib import Path

import torch

from evalkit.features.inception import InceptionNetwork

# Random weights give nearly constant logits (Inception Score 1.002), which would prove nothing.
LOGIT_SCALE = 60.0


def write_inception_weights(path: Path) -> Path:
    """Random weights whose batch-norms are not trivial and whose Inception Score is above 2."""
    generator = torch.Generator().manual_seed(0)
    with torch.device("meta"):  # only the shapes are wanted
        shapes = InceptionNetwork().state_dict()
    state = {name: _value(name, values, generator) for name, values in shapes.items()}
    torch.save(state, path)
    return path


def _value(name: str, values: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    if "num_batches" in name:
        return torch.tensor(0)
    if name == "fc.weight":
        return torch.randn(values.shape, generator=generator) * LOGIT_SCALE / 2048**0.5
    if name.endswith("conv.weight"):
        # Filters without a mean keep every channel alive, so that shallow features have full rank.
        weight = torch.randn(values.shape, generator=generator)
        weight = weight - weight.mean(dim=(1, 2, 3), keepdim=True)
        return weight * (2 / values[0].numel()) ** 0.5
    if name.endswith(("running_var", "bn.weight")):
        return 0.5 + torch.rand(values.shape, generator=generator)
    return 0.1 * torch.randn(values.shape, generator=generator)
