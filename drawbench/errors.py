"""Errors of studies, vote tables and raters, and the commands that they recommend.

All errors derive from `EvalkitError`.
"""

import re
import shlex

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


def command_line(*words: object, database: str = "") -> str:
    """Return a command for a hint, with the database that the study needs but no password.

    >>> command_line("rate", "my study", database="postgresql://me:secret@db/votes")
    "rate 'my study' --database 'postgresql://me:***@db/votes'"
    """
    without_password = re.sub(r"(://[^:@/]*):[^@/]*@", r"\1:***@", database)
    given = ["--database", without_password] if database else []
    return shlex.join([*map(str, words), *given])
