"""Refuses options that take one value and are given twice: click takes the last one and drops the others unseen."""

from collections import Counter

import click

from phasesync.errors import InvalidInputError


def refuse_repeats(command: click.Command, args: list[str], parent: click.Context | None, name: str) -> None:
    """
    Look at a command line before anything of it is carried out, commands in it included.

    Flags may be repeated: nothing is lost then. Whatever else is wrong with the command line is left to click.

    Args:
        command: what the arguments are for.
        args: the words after its name.
        parent: of the command that it is in.
        name: of the command, as it was typed.

    Raises:
        InvalidInputError: names the option.
    """
    context = command.context_class(
        command,
        info_name=name,
        parent=parent,
        **{**command.context_settings, "resilient_parsing": True},
    )
    _, rest, order = command.make_parser(context).parse_args(list(args))
    # The order has an option as often as it was given.
    for parameter, times in Counter(order).items():
        if times > 1 and isinstance(parameter, click.Option) and _takes_one(parameter):
            written = " / ".join([parameter.opts[-1], *parameter.secondary_opts])
            raise InvalidInputError(
                f"{written} is given {'twice' if times == 2 else f'{times} times'}, and takes one value",
                hint=f"give it once: {context.command_path} --help",
            )
    if isinstance(command, click.Group) and rest:
        inner = command.get_command(context, rest[0])
        if inner is not None:
            refuse_repeats(inner, rest[1:], context, rest[0])


def _takes_one(option: click.Option) -> bool:
    return not option.multiple and (not option.is_flag or bool(option.secondary_opts))
