"""Which models and options can be spread, and on which kind of device."""

from __future__ import annotations

from dataclasses import replace

from evalkit.core.errors import ConfigError
from evalkit.options import SamplingOptions
from evalkit.options.spreading import SpreadOptions
from generators.catalog import scheme_of


def refuse_spread_server(model: str, spread: SpreadOptions) -> None:
    """Refuse to spread a model behind a server, whose caps hold for one process.

    Raises:
        ConfigError: It is one.
    """
    scheme = scheme_of(model)
    if scheme is not None and scheme.takes_access and spread.is_spread:
        raise ConfigError(
            f"{model} is behind a server, which does the work itself, and its caps hold for one "
            "process. Use --concurrency instead of --devices or --engine."
        )


def spread_sampling(sampling: SamplingOptions, spread: SpreadOptions) -> SamplingOptions:
    """Return the options with the device of the workers.

    Raises:
        ConfigError: `--device` names another kind of device than `--devices`.
    """
    if spread.engine == "ray":
        from evalkit.workers.ray_pool import cluster_device

        return replace(sampling, device=cluster_device(spread.address, spread.gpus_per_worker))
    if not spread.devices:
        return sampling
    return replace(sampling, device=spread.devices[0].split(":")[0])
