"""Errors of generators, beyond those that every package shares."""

from evalkit.core.errors import ConfigError, DataError, EvalkitError, NetworkError, WeightsError


class UnsupportedRequestError(ConfigError):
    """A request that the generator can't serve, such as a prompt for an unconditional model."""


class BadImageError(DataError):
    """An image of a foreign generator that has another type, range or size than it must have."""


class CapReachedError(ConfigError):
    """A cap on requests or costs that does not cover the next batch."""


class MissingKeyError(ConfigError):
    """A server that needs a key, which the environment does not have."""


class ServerError(NetworkError):
    """A server that refuses the key, the model or the account."""


class ArchitectureError(ConfigError):
    """A network configuration that can't be built."""


class NonFiniteImageError(DataError):
    """An image with values that are NaN or infinite, so that it has no pixels."""


class DivergedError(EvalkitError, FloatingPointError):
    """A training whose loss is no longer a number."""


class UnsafeWeightsError(WeightsError):
    """A weights file that would run code if it were loaded."""
