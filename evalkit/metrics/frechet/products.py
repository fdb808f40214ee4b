"""Where the large float64 products of Fréchet distances are computed: by numpy, or on a GPU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import numpy as np
from jaxtyping import Float64

CPU = "cpu"
_DEVICE: ContextVar[str] = ContextVar("device of the products", default=CPU)


@contextmanager
def products_on(device: str) -> Iterator[None]:
    """Context in which this thread computes its products on a device.

    Args:
        device: `cpu`, which is numpy, or a torch device such as `cuda:0`.
    """
    token = _DEVICE.set(device)
    try:
        yield
    finally:
        _DEVICE.reset(token)


def gram(rows: Float64[np.ndarray, "n d"]) -> Float64[np.ndarray, "d d"]:
    """Compute the transposed rows times the rows, in float64 also on a GPU."""
    device = _DEVICE.get()
    product: np.ndarray
    if device == CPU:
        product = rows.T @ rows
        return product
    import torch

    moved = torch.from_numpy(np.ascontiguousarray(rows)).to(device)
    product = (moved.T @ moved).cpu().numpy()
    return product
