"""From the options of spreading to workers."""

from __future__ import annotations

import platform
from collections.abc import Callable
from importlib.metadata import version
from importlib.util import find_spec

from evalkit.options.spreading import SpreadOptions
from evalkit.workers.dispatch import Pool
from evalkit.workers.work import Work


def library_versions() -> dict[str, str]:
    """Return the versions of the libraries that can change an image or a feature."""
    libraries = ("evalkit", "torch", "torchvision", "numpy", "pillow", "scipy")
    there = [name for name in ("diffusers", "transformers") if find_spec(name) is not None]
    versions = {name: version(name) for name in (*libraries, *there)}
    return {"python": platform.python_version(), **versions}


def pool_opener(work: Work, spread: SpreadOptions) -> Callable[[int], Pool]:
    """Return what starts the workers, at most as many as there are tasks.

    Args:
        work: What they do.
        spread: Where they run.
    """

    def of_processes(most: int) -> Pool:
        from evalkit.workers.processes import ProcessPool

        return ProcessPool(work, spread.devices[:most])

    def of_cluster(most: int) -> Pool:
        from evalkit.workers.ray_pool import RayPool

        return RayPool(
            work,
            address=spread.address,
            num_workers=spread.workers,
            most=most,
            gpus_per_worker=spread.gpus_per_worker,
        )

    return of_cluster if spread.engine == "ray" else of_processes
