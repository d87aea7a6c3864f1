"""Which syncs a command is about: names, or --all, or filters. Shared by the commands that take several."""

import shlex
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import update_wrapper
from inspect import cleandoc
from typing import TYPE_CHECKING, Any, Final

import click

from phasesync.cli.params import Name, Words, comma_list
from phasesync.cli.sync_options import CREDENTIAL
from phasesync.core.sync import ALL_SYNCS, SyncFilter, SyncStatus
from phasesync.errors import InvalidInputError

if TYPE_CHECKING:
    from phasesync.bootstrap import Application

_HELP: Final = """
Takes several names, --all, or filters, each of which leaves fewer. The error of one sync does not stop the others. The
exit code is the worst of all, from mild to bad: 0, 3, 4, 5, 2, 1, 7, 6, 130.
"""


@dataclass(frozen=True, kw_only=True)
class Selection:
    """
    The syncs that a command is about.

    Attributes:
        names: as they were typed, each once; empty if filters select.
        which: the filters; no condition is all syncs.
    """

    names: tuple[str, ...] = ()
    which: SyncFilter = ALL_SYNCS

    @property
    def only(self) -> str | None:
        """The name of the one sync that was named; None if several may be meant."""
        return self.names[0] if len(self.names) == 1 else None

    @property
    def words(self) -> str:
        """The selection, as it is typed."""
        return self._words(self.which.statuses)

    def words_of(self, status: SyncStatus) -> str:
        """The selection as it is typed for those of its syncs that have a status now: filters may name a former one."""
        return self._words({status} if self.which.statuses else ())

    def _words(self, statuses: Collection[SyncStatus]) -> str:
        if self.names:
            return " ".join(self.names)
        words = []
        if self.which.app is not None:
            words += ["--app", self.which.app]
        if self.which.credential is not None:
            words += ["--credential", self.which.credential]
        if statuses:
            words += ["--status", ",".join(sorted(statuses))]
        return shlex.join(words) or "--all"

    @property
    def empty(self) -> str:
        """What to say if there is no such sync."""
        return "there are no syncs yet" if self.which == ALL_SYNCS else "there are no such syncs"

    def resolve(self, application: "Application") -> list[str]:
        """Return the names of the syncs. NotFoundError if a name, an app or a credential does not exist."""
        if self.names:
            return application.store.syncs.stored_names(self.names)
        return application.store.syncs.names_of(self.which)


def selection_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add names, --all and filters to a command; it gets a `Selection` as `selection`."""

    def wrapper(
        *args: Any,
        names: tuple[str, ...],
        every: bool,
        app: str | None,
        credential: str | None,
        statuses: tuple[str, ...],
        **kwargs: Any,
    ) -> Any:
        which = SyncFilter(statuses=frozenset(read_statuses(statuses)), app=app, credential=credential)
        filtered = every or which != ALL_SYNCS
        if bool(names) == filtered:
            raise InvalidInputError(
                "names and filters exclude each other" if names else "name a sync, or give --all",
                hint="either names, or --all, or --app, --credential and --status",
            )
        distinct = {name.lower(): name for name in reversed(names)}
        selection = Selection(names=tuple(reversed(distinct.values())), which=which)
        return command(*args, selection=selection, **kwargs)

    decorated: Any = update_wrapper(wrapper, command)
    decorated.__doc__ = f"{cleandoc(command.__doc__ or '')}\n\n{_HELP}"
    for option in (
        status_option,
        click.option("--credential", type=CREDENTIAL, help="Those that use this credential only. Default: any."),
        click.option("--app", type=Name("app"), help="Those of this app's environments only. Default: of all apps."),
        click.option("--all", "every", is_flag=True, help="All syncs, in place of names."),
        click.argument("names", type=Name("sync"), nargs=-1, metavar="[NAME]..."),
    ):
        decorated = option(decorated)
    result: Callable[..., Any] = decorated
    return result


status_option = click.option(
    "--status",
    "statuses",
    type=Words(SyncStatus),
    multiple=True,
    callback=comma_list,
    metavar="STATUS,...",
    help=f"Only these statuses: {', '.join(SyncStatus)}. Repeat it, or separate several with commas. Default: all.",
)


def read_statuses(words: Sequence[str]) -> list[SyncStatus]:
    """Return the statuses of words. InvalidInputError."""
    if unknown := [word for word in words if word not in set(SyncStatus)]:
        raise InvalidInputError(f"{unknown[0]!r} is not a status", hint=f"statuses: {', '.join(SyncStatus)}")
    return [SyncStatus(word) for word in words]
