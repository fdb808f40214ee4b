"""Errors of generators, beyond those that every package shares."""

from evalkit.core.errors import ConfigError, DataError, WeightsError


class UnsupportedRequestError(ConfigError):
    """A request that the generator can't serve, such as a prompt for an unconditional model."""


class BadImageError(DataError):
    """An image of a foreign generator that has another type, range or size than it must have."""


class ArchitectureError(ConfigError):
    """A network configuration that can't be built."""


class UnsafeWeightsError(WeightsError):
    """A weights file that would run code if it were loaded."""
