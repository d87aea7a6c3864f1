"""What `phasesync run` puts into the environment of its command, and what cannot stand there."""

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from phasesync.cli.output import Output
from phasesync.core.model import ValueType
from phasesync.errors import AlreadyExistsError, InvalidInputError

if TYPE_CHECKING:
    from phasesync.bootstrap import Application
    from phasesync.core.dynamic import DynamicSecret
    from phasesync.core.model import SecretValue
    from phasesync.engine.issuing import Issued

_OURS = ("PHASESYNC_ROOT_KEY",)
"""Not for anybody else."""
_TOKENS = ("AWS_SESSION_TOKEN", "AWS_SECURITY_TOKEN")
"""Of the shell's own session; beside another access key they make every call fail."""


def read_variables(application: "Application", environment: tuple[str, str], path: str, out: Output) -> dict[str, str]:
    """
    Return the secrets of a folder, references resolved; what no environment can have by its kind is told and left out.

    Raises:
        NotFoundError, and others: of reading and resolving.
        InvalidInputError: a text that cannot stand in an environment, or not in this one.
    """
    from phasesync.engine.source import read_folder

    application.environments.get_environment(*environment)  # Where there is none, it says which there are.
    source = read_folder(application.environments, *environment, path)
    if (unresolved := source.error()) is not None:
        raise unresolved
    values = {}
    for key, value in source.values.items():
        if (why := _unfit(key, value)) is not None:
            out.warn(f"{key} is left out: {why}")
            continue
        values[key] = value.reveal_text()
        if "\0" in values[key]:
            raise InvalidInputError(
                f"the value of {key} cannot be put into an environment: it has a NUL character",
                hint="change it, or move it to a folder of its own, which is not read with this one",
            )
    return values


def check_names(recipes: "Sequence[DynamicSecret]", taken: Mapping[str, str]) -> None:
    """
    Refuse recipes whose keys cannot be names of variables, or are the keys of something else.

    Args:
        recipes: whose leases a command is to get.
        taken: key -> what it is a key of.

    Raises:
        InvalidInputError: a key cannot be the name of a variable.
        AlreadyExistsError: a key is that of something else.
    """
    owners = dict(taken)
    for recipe in recipes:
        for output, key in recipe.config.keys.items():
            hint = f"phasesync dynamic update {recipe.name} --key-map {output}=NAME"
            if "=" in key:
                raise InvalidInputError(
                    f"{recipe.name} hands {output} out as {key}, and no variable has an equals sign in its name",
                    hint=hint,
                )
            if key in owners:
                raise AlreadyExistsError(f"{key} is a key of {owners[key]} and of {recipe.name}", hint=hint)
            owners[key] = recipe.name


def environ_with(values: Mapping[str, str], issued: "Sequence[Issued]") -> dict[str, str]:
    """Return the environment of the command: ours, the secrets, and what was issued; UTF-8 by `streams.use_utf8`."""
    environ = {name: value for name, value in os.environ.items() if name not in _OURS}
    environ |= values
    for one in issued:
        handed_out = {key: value.reveal_text() for key, value in one.credentials.items()}
        if "AWS_ACCESS_KEY_ID" in handed_out:
            for name in _TOKENS:
                environ.pop(name, None)
        environ |= handed_out
    return environ


def _unfit(key: str, value: "SecretValue") -> str | None:
    """Return why a secret is no variable of an environment by its kind or its name, None = it is."""
    if value.type is ValueType.BINARY:
        return "it is binary"
    return "no variable has an equals sign in its name" if "=" in key else None
