"""The Typer app that `evalkit drawbench` mounts."""

from importlib import import_module

import typer

from drawbench.commands import COMMAND_MODULES

app = typer.Typer(
    name="drawbench",
    help="Blind pairwise studies with people, and what their votes say.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for _name in COMMAND_MODULES:
    import_module(f"drawbench.commands.{_name}").register(app)
