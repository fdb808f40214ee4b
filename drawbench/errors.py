"""Errors of studies, vote tables and raters. All derive from `EvalkitError`."""

from evalkit.core.errors import ConfigError, DataError, EvalkitError


class SuiteError(DataError):
    """A prompt suite is incomplete, altered or malformed."""


class StudyError(ConfigError):
    """A study can't be run as configured."""


class StoreError(EvalkitError, RuntimeError):
    """A vote store can't be opened, read or written."""


class NewerSchemaError(StoreError):
    """A vote store was written by a newer version."""


class RefusedError(EvalkitError, PermissionError):
    """A rater may not do this."""


class VotesError(DataError):
    """A table of votes is malformed."""


class NoVotesError(VotesError):
    """No votes are left to compute with."""


class DuplicateVoteError(VotesError):
    """A rater voted twice on one item and question."""
