"""The environment of the command of `phasesync run`: secrets and leases as variables, and checks of what fits."""

import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from phasesync.cli.output import Output
from phasesync.core.model import ValueType
from phasesync.core.names import without_value
from phasesync.errors import AlreadyExistsError, InvalidInputError

if TYPE_CHECKING:
    from phasesync.bootstrap import Application
    from phasesync.core.dynamic import DynamicSecret
    from phasesync.core.model import SecretValue
    from phasesync.engine.leases.issuance import IssuedLease

_TOKENS = ("AWS_SESSION_TOKEN", "AWS_SECURITY_TOKEN")
"""Variables of the shell's own session. Together with another access key they make every call fail."""

_LOADING: Final = re.compile(
    r"""
      PATH | (LD|DYLD|MALLOC)_.* | GLIBC_TUNABLES | GCONV_PATH | LOCPATH | NLSPATH | TERMINFO(_DIRS)?
    | BASH_ENV | BASH_FUNC_.* | ENV | IFS | CDPATH | SHELLOPTS | BASHOPTS | PS4 | PROMPT_COMMAND
    | ZDOTDIR | FPATH | SHELL
    | PYTHON(PATH|HOME|STARTUP|USERBASE|BREAKPOINT|EXECUTABLE|PLATLIBDIR|INSPECT|WARNINGS|PYCACHEPREFIX)
    | NODE_(OPTIONS|PATH|REPL_EXTERNAL_MODULE) | NPM_CONFIG_.* | npm_config_.*
    | RUBY(LIB|OPT) | GEM_(PATH|HOME) | BUNDLE_GEMFILE | PERL(5?LIB|5OPT|5DB|5SHELL)
    | (JAVA_TOOL|_JAVA|JDK_JAVA|MAVEN|GRADLE|JAVA)_OPT(ION)?S | CLASSPATH | JAVA_HOME
    | PHPRC | PHP_INI_SCAN_DIR | LUA_(PATH|CPATH|INIT).* | TCLLIBPATH | R_(PROFILE|ENVIRON|LIBS)(_USER)?
    | ERL_(FLAGS|AFLAGS|ZFLAGS|LIBS) | ELIXIR_ERL_OPTIONS | GUILE_LOAD_(COMPILED_)?PATH | JULIA_(LOAD_PATH|DEPOT_PATH)
    | DOTNET_(STARTUP_HOOKS|ADDITIONAL_DEPS|ROOT) | (CORECLR|COR|DOTNET)_(ENABLE_PROFILING|PROFILER.*)
    | GIT_(SSH|SSH_COMMAND|EXEC_PATH|ASKPASS|EDITOR|PAGER|EXTERNAL_DIFF|PROXY_COMMAND|TEMPLATE_DIR|CONFIG.*)
    | SSH_ASKPASS | SUDO_ASKPASS | EDITOR | VISUAL | PAGER | MANPAGER | BROWSER | LESSOPEN | LESSCLOSE
    | OPENSSL_(CONF|MODULES|ENGINES) | GTK_(MODULES|PATH) | GIO_(EXTRA_MODULES|MODULE_DIR) | QT_PLUGIN_PATH
    """,
    re.VERBOSE,
)
"""Variables by which the loader, a shell, an interpreter or a common tool finds code that it then runs."""

_MAX_STRING: Final = 32 * os.sysconf("SC_PAGE_SIZE") if sys.platform == "linux" else None
"""Most bytes of one variable with its name and its end; None: no such limit (Linux: MAX_ARG_STRLEN)."""
_MAX_TOTAL: Final = 6 * 1024 * 1024
"""Linux takes no more, however large the stack is (execve(2), limits on size of arguments and environment)."""
_HEADROOM: Final = 4_096
"""Bytes for the path of the program, and for what the kernel adds."""
_LEASE: Final = 8_192
"""Most bytes of a lease's variables; a session token is the longest."""
_SHOWN: Final = 3


def read_variables(application: "Application", environment: tuple[str, str], path: str, out: Output) -> dict[str, str]:
    """
    Return the secrets of a folder, references resolved. Warn of those that cannot be variables, and leave them out.

    Raises:
        NotFoundError, and others: of reading and resolving.
        InvalidInputError: a text that cannot be the value of a variable.
    """
    from phasesync.engine.source import read_folder

    application.store.apps.get_environment(*environment)  # If it is missing, the error names those that exist.
    source = read_folder(application.store.secrets, *environment, path)
    if (unresolved := source.error()) is not None:
        raise unresolved
    values = {}
    for key, value in source.values.items():
        if (why := _unfit(key, value)) is not None:
            out.warn(f"{without_value(key)} is left out: {why}")
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
    Refuse recipes with keys that cannot be names of variables, or that are used already.

    Args:
        recipes: of the leases that a command gets.
        taken: key -> what uses it.

    Raises:
        InvalidInputError: a key cannot be the name of a variable.
        AlreadyExistsError: a key is used already.
    """
    owners = dict(taken)
    for recipe in recipes:
        for output, key in recipe.config.keys.items():
            hint = f"phasesync dynamic update {recipe.name} --key-map {output}=NAME"
            if "=" in key:
                raise InvalidInputError(
                    f"{recipe.name} issues {output} as {without_value(key)}, and no variable has an equals sign in "
                    "its name",
                    hint=hint,
                )
            if key in owners:
                raise AlreadyExistsError(f"{key} is a key of {owners[key]} and of {recipe.name}", hint=hint)
            owners[key] = recipe.name


def check_size(command: Sequence[str], environ: Mapping[str, str], values: Mapping[str, str], *, leases: int) -> None:
    """
    Refuse an environment that is too large for the system, before anything is issued for it.

    Args:
        command: its words, which share the limit.
        environ: of the command, without leases.
        values: the secrets in it.
        leases: number of leases to be added.

    Raises:
        InvalidInputError: names the largest keys.
    """
    sizes = {key: len(os.fsencode(f"{key}={value}")) + 1 for key, value in environ.items()}
    largest = sorted(((sizes[key], key) for key in values), key=lambda sized: (-sized[0], sized[1]))
    hint = (
        "move it to a folder of its own, which is not read with this one, and have the command read it from a file: "
        "phasesync secrets get APP/ENV KEY --reveal > FILE"
    )
    if _MAX_STRING is not None and largest and largest[0][0] > _MAX_STRING:
        over = [f"{key} ({size:,} bytes)" for size, key in largest if size > _MAX_STRING]
        raise InvalidInputError(
            f"too large for an environment, which takes {_MAX_STRING:,} bytes a variable: {', '.join(over)}", hint=hint
        )
    system = os.sysconf("SC_ARG_MAX")
    limit = min(system, _MAX_TOTAL) if system > 0 else _MAX_TOTAL
    words = sum(len(os.fsencode(word)) + 1 for word in command)
    # Each has a pointer of eight bytes beside it.
    total = sum(sizes.values()) + words + 8 * (len(sizes) + len(command)) + _HEADROOM + leases * _LEASE
    if total > limit:
        named = ", ".join(f"{key} ({size:,} bytes)" for size, key in largest[:_SHOWN]) or "none of them a secret"
        raise InvalidInputError(
            f"the environment and the arguments of the command have {total:,} bytes, and this system takes {limit:,}; "
            f"the largest: {named}",
            hint=hint,
        )


def warn_of_loading(names: Iterable[str], out: Output) -> None:
    """Warn of variables by which programs find code to run."""
    loading = sorted(name for name in names if _LOADING.fullmatch(name))
    if loading:
        out.warn(
            f"{', '.join(loading)}: decides what code the command, or what it starts, loads and runs; who can edit "
            "this environment can run code there"
        )


def environ_with(values: Mapping[str, str], issued: "Sequence[IssuedLease]") -> dict[str, str]:
    """Return the environment of the command: ours, the secrets and the leases; in UTF-8, see `streams.use_utf8`."""
    # Imported here, as the settings are: the help of the command needs neither.
    from phasesync.settings.model import secret_variables

    environ = {name: value for name, value in os.environ.items() if name not in secret_variables()}
    environ |= values
    for lease in issued:
        variables = {key: value.reveal_text() for key, value in lease.credentials.items()}
        if "AWS_ACCESS_KEY_ID" in variables:
            for name in _TOKENS:
                environ.pop(name, None)
        environ |= variables
    return environ


def _unfit(key: str, value: "SecretValue") -> str | None:
    """Return why a secret cannot be a variable; None if it can."""
    if value.type is ValueType.BINARY:
        return "it is binary"
    return "no variable has an equals sign in its name" if "=" in key else None
