"""The subcommands of `evalkit drawbench`: one module each, with `register(app)`.

A module imports what it needs inside its command, so that `--help` stays quick.
"""

COMMAND_MODULES = (
    "suites",
    "new",
    "rate",
    "raters",
    "archive",
    "results",
    "plan",
    "simulate",
    "convert",
)
