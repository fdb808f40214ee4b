"""The exceptions that a user can cause, and what they are told.

Every leaf is also the builtin that a Python programmer would expect. The command line prints the
message of an `EvalkitError` on one line and exits with 2; anything else is a bug and keeps its
traceback. A message says what is wrong, the value seen, what is allowed and what to do.
"""


class EvalkitError(Exception):
    """A fault of the input or of the surroundings, not of the program."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else self.__class__.__name__


class ConfigError(EvalkitError, ValueError):
    """An option, a setting or a configuration file that can't be used."""


class DataError(EvalkitError, ValueError):
    """A data set, an image or a statistics file that can't be used."""


class NotEnoughImagesError(DataError):
    """Fewer images than the metric needs."""


class MissingDataError(EvalkitError, FileNotFoundError):
    """Data that is neither on this machine nor reachable."""


class WeightsError(EvalkitError, ValueError):
    """Weights of the wrong hash, shape, keys or format."""


class MissingWeightsError(EvalkitError, FileNotFoundError):
    """Weights that are neither on this machine nor reachable."""


class UnknownNameError(EvalkitError, KeyError):
    """A name that no catalog holds."""


class NetworkError(EvalkitError, ConnectionError):
    """A host that can't be reached."""


class MissingExtraError(EvalkitError, ImportError):
    """A part of evalkit that was not installed."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} needs an extra: pip install 'evalkit[{extra}]'")


class RunFolderError(EvalkitError, ValueError):
    """A run folder that is broken, foreign or made with other settings."""
