"""
One command line: its settings, who typed it, and the application it works with.

The application comes from `phasesync.bootstrap`, and only for commands that ask for one.
"""

import os
import pwd
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import update_wrapper
from pathlib import Path
from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeVar, cast

import click

from phasesync.cli.imports import no_collection
from phasesync.cli.streams import one_line, print_to_stderr, styled
from phasesync.errors import ApprovalNeededError, InvalidInputError, PhasesyncError

if TYPE_CHECKING:
    from phasesync.bootstrap import Application
    from phasesync.settings import LoadedSettings

P = ParamSpec("P")
R = TypeVar("R")

MAX_ACTOR_CHARACTERS = 64
_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass
class Invocation:
    """
    The options before the command.

    Attributes:
        config: the settings file; None: one of the usual places.
        claimed_actor: who asks, as --actor says; None if it is not given.
    """

    config: Path | None = None
    claimed_actor: str | None = None
    _loaded: "LoadedSettings | None" = field(default=None, repr=False)

    def settings(self) -> "LoadedSettings":
        """Read the settings once, and print their warnings. SettingsError."""
        if self._loaded is None:
            with no_collection("phasesync.settings"):
                from phasesync.settings import load_settings

            self._loaded = load_settings(self.config)
            _warn(self._loaded.warnings)
        return self._loaded

    @property
    def actor(self) -> str:
        """
        Who asks: the user of the operating system, and who that user claims to act for.

        The user's name comes from the user database: anyone can set LOGNAME and USER.
        """
        try:
            user = pwd.getpwuid(os.geteuid()).pw_name
        except KeyError:
            user = f"uid {os.geteuid()}"
        if not self.claimed_actor:
            return user
        if len(self.claimed_actor) > MAX_ACTOR_CHARACTERS or one_line(self.claimed_actor) != self.claimed_actor:
            raise InvalidInputError(f"--actor takes at most {MAX_ACTOR_CHARACTERS} characters on one line")
        return f"{user} as {self.claimed_actor}"


def invocation() -> Invocation:
    """Return the command line of this process."""
    return click.get_current_context().ensure_object(Invocation)


def with_application(command: "Callable[Concatenate[Application, P], R]") -> Callable[P, R]:
    """
    Open the application for a command, pass it as the first argument, and close it.

    A change of a protected environment, which the store refuses, is filed as a request here, whatever the command.
    """

    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        loaded = invocation().settings()
        with no_collection("phasesync.bootstrap"):
            from phasesync.bootstrap import command_caller, open_application

        _check_texts(click.get_current_context())
        caller = command_caller(invocation().actor)
        with open_application(loaded.settings, caller=caller) as application:
            _warn(application.warnings)
            try:
                return command(application, *args, **kwargs)
            except PhasesyncError as error:
                from phasesync.cli.refusals import write_refusal

                write_refusal(application, error)
                if not isinstance(error, ApprovalNeededError):
                    raise
                from phasesync.cli.approvals import hold

                # A number is the exit code, whatever a command returns otherwise.
                return cast(R, hold(application, error, kwargs))

    return update_wrapper(wrapper, command)


def _check_texts(context: click.Context) -> None:
    """
    Refuse text that is not UTF-8: it cannot be stored. File names, and the words of a command, may be any bytes.

    Raises:
        InvalidInputError: names the argument; never repeats it.
    """
    for parameter in context.command.params:
        if isinstance(parameter.type, click.Path) or parameter.type is click.UNPROCESSED:
            continue
        # Python keeps the bytes of an argument that do not decode as lone surrogates.
        if any(_SURROGATE.search(text) for text in _texts_of(context.params.get(parameter.name or ""))):
            raise InvalidInputError(
                f"{parameter.get_error_hint(context)} is not UTF-8 text", hint="phasesync takes UTF-8 in every locale"
            )


def _texts_of(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, tuple):
        for entry in value:
            yield from _texts_of(entry)


def _warn(warnings: Iterable[str]) -> None:
    for warning in warnings:
        print_to_stderr(f"{styled('warning:', fg='yellow')} {one_line(warning)}")
