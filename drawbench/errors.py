"""The faults that a study, a vote table or a rater can cause. All derive from `EvalkitError`."""

from evalkit.core.errors import ConfigError, DataError, EvalkitError


class SuiteError(DataError):
    """A prompt suite that is incomplete, altered or of the wrong form."""


class StudyError(ConfigError):
    """A study that can't be run as it was described."""


class StoreError(EvalkitError, RuntimeError):
    """A vote store that can't be opened, read or written."""


class NewerSchemaError(StoreError):
    """A vote store that a newer version wrote."""


class RefusedError(EvalkitError, PermissionError):
    """Something that this rater, or this password, may not do."""


class VotesError(DataError):
    """A table of votes that can't be read as one."""


class NoVotesError(VotesError):
    """No vote is left to compute with."""


class DuplicateVoteError(VotesError):
    """One rater's vote on one item and question, twice."""
