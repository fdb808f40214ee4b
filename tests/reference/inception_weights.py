"""A weights file in the format of the Inception-2015 network, with seeded random values."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from evalkit.features.inception import InceptionExtractor, InceptionNetwork

# Spread of the logits over images, in nats: enough for an Inception Score well above 2.
LOGIT_SPREAD = 3.0


def write_inception_weights(path: Path) -> Path:
    """Random weights whose batch-norms are not trivial and whose Inception Score is above 2.

    Random weights alone give nearly the same logits to every image, and a score of 1.003, on which
    nothing could be told apart. So the last layer is made orthogonal to the mean feature of a few
    photographs, and scaled.
    """
    generator = torch.Generator().manual_seed(0)
    with torch.device("meta"):  # only the shapes are wanted
        shapes = InceptionNetwork().state_dict()
    state = {name: _value(name, values, generator) for name, values in shapes.items()}
    torch.save(state, path)
    features = torch.from_numpy(InceptionExtractor(("2048",), weights=path).extract(_crops()))
    mean = features.mean(dim=0)
    weight = state["fc.weight"]
    weight = weight - torch.outer(weight @ mean, mean) / (mean @ mean)
    state["fc.weight"] = weight * LOGIT_SPREAD / ((features - mean) @ weight.T).std()
    torch.save(state, path)
    return path


def _crops() -> list[np.ndarray]:
    from sklearn.datasets import load_sample_images

    rng = np.random.default_rng(1)
    crops = []
    for image in load_sample_images().images * 6:
        top, left = (int(rng.integers(side - 64)) for side in image.shape[:2])
        crops.append(np.array(image[top : top + 64, left : left + 64]))
    return crops


def _value(name: str, values: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    if "num_batches" in name:
        return torch.tensor(0)
    if name.endswith("conv.weight"):
        # Filters without a mean keep every channel alive, so that shallow features have full rank.
        weight = torch.randn(values.shape, generator=generator)
        weight = weight - weight.mean(dim=(1, 2, 3), keepdim=True)
        return weight * (2 / values[0].numel()) ** 0.5
    if name.endswith(("running_var", "bn.weight")):
        return 0.5 + torch.rand(values.shape, generator=generator)
    return 0.1 * torch.randn(values.shape, generator=generator)
