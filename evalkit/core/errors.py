"""The exceptions that a user can cause.

Every leaf is also the builtin that a Python programmer would expect. The command line prints the
message of an `EvalkitError` on one line and exits with 2 (an `IncompleteError`: 3); anything else
is a bug and keeps its traceback. A message is full sentences: what is wrong, the value seen, what
is allowed, what to do.
"""


class EvalkitError(Exception):
    """A fault of the input or the environment, not of the program."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else self.__class__.__name__


def as_clause(error: Exception) -> str:
    """Return an error's message without its capital and full stop, to quote in another sentence.

    >>> as_clause(NetworkError("No network: can't resolve example.org."))
    "no network: can't resolve example.org"
    """
    text = str(error).removesuffix(".")
    first = text.partition(" ")[0]
    return text[:1].lower() + text[1:] if first in ("A", "An", "No", "The", "There") else text


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
    """A name that no catalog contains."""


class NetworkError(EvalkitError, ConnectionError):
    """A host that is unreachable."""


class MissingExtraError(EvalkitError, ImportError):
    """An optional part of evalkit that is not installed."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(
            f"{what} needs an optional dependency. Install it: pip install 'evalkit[{extra}]'."
        )


class OutputError(EvalkitError, OSError):
    """A file or folder that can't be written."""


class OutOfMemoryError(EvalkitError, MemoryError):
    """Too little memory for the work at once."""


class IncompleteError(EvalkitError):
    """Work that was done, except for a part that was asked for by name; exit code 3."""


class RunFolderError(EvalkitError, ValueError):
    """A run folder that is broken, of another kind, or made with other settings."""
