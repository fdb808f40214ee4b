"""The run-time type check of the tests: shapes and types of every annotated call.

An int passes for a float, as for every static type checker.
"""

from beartype import BeartypeConf, beartype

check = beartype(conf=BeartypeConf(is_pep484_tower=True))
