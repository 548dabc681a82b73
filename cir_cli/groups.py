"""Groups of commands that list things: `cir catalogs` is `cir catalogs list`."""

from __future__ import annotations

from typing import Any, ClassVar

# Typer has no public name for it.
from typer._click.globals import get_current_context
from typer.core import TyperGroup

_TAKEN = "cir_cli.taken_for_argument"


class ListsByDefault(TyperGroup):
    """A group whose `list` is what it does without the name of a command."""

    takes_arguments: ClassVar[bool] = False

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        first = args[0] if args else ""
        # Where a shell asks what may follow, nothing is decided yet.
        is_option = (not first and not ctx.resilient_parsing) or (
            first.startswith("-") and first not in ctx.help_option_names
        )
        is_argument = first and first not in self.commands and not first.startswith("-")
        if is_option or (self.takes_arguments and is_argument):
            args = ["list", *args]
            ctx.meta[_TAKEN] = bool(is_argument)
        return super().parse_args(ctx, args)


class ListsWhatIsNamed(ListsByDefault):
    """Such a group whose `list` takes arguments: all that is not the name of a command is one."""

    takes_arguments = True


def taken_for_argument() -> bool:
    """Return whether the first word of the command that runs could have been meant as a command's name."""
    return bool(get_current_context().meta.get(_TAKEN))
