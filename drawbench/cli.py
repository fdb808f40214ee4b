"""The Typer app that `evalkit drawbench` mounts, with a module per group of commands."""

from importlib import import_module

import typer

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

app = typer.Typer(
    name="drawbench",
    help="Blind pairwise studies with human raters: make, run and analyse them.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for _name in COMMAND_MODULES:
    import_module(f"drawbench.commands.{_name}").register(app)
