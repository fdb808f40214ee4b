"""The subcommands of `evalkit drawbench`: one module each, with `register(app)`.

A module imports what it needs inside its commands, so that `--help` stays fast.
"""
