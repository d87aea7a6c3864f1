"""
Reads the settings: defaults < TOML file < PHASESYNC_ environment variables < flags of the command line.

It opens no file but the settings file, and prints nothing. No message repeats a value.
"""

import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError
from pydantic_settings import InitSettingsSource

from phasesync.errors import HostUnavailableError, SettingsError
from phasesync.host_files import UnusableFileError, file_exists, read_regular_file
from phasesync.settings.model import ENVIRONMENT_ONLY, PREFIX, Settings, setting_names, variable_of

NOT_SETTINGS = frozenset({"PHASESYNC_CONFIG", "PHASESYNC_ACTOR", "PHASESYNC_DEBUG", "PHASESYNC_ISSUING"})
"""Variables with our prefix that other modules read."""

_MOST_BYTES: Final = 1 << 20
"""All settings with all of their comments take 4 KB."""


@dataclass(frozen=True, kw_only=True)
class LoadedSettings:
    """
    Settings and their source.

    Attributes:
        warnings: for the operator, one line each.
        source: the file that was read, None if there is none.
    """

    settings: Settings
    warnings: tuple[str, ...] = ()
    source: Path | None = None


def load_settings(
    config: Path | None = None,
    environ: Mapping[str, str] = os.environ,
    overrides: Mapping[str, object] | None = None,
) -> LoadedSettings:
    """
    Read all sources.

    Args:
        config: the settings file; None means the one that PHASESYNC_CONFIG names, else the first at the usual places.
        environ: environment variables.
        overrides: dotted name -> value, from flags.

    Raises:
        SettingsError: a file that is missing, not TOML or writable by others; an unknown name; a value out of range.
        HostUnavailableError: the file cannot be read now.
    """
    source, unread = _find(config, environ)
    from_file = _read(source) if source else {}
    from_environment, warnings = _from_environment(environ)

    levels = (_nested(overrides or {}), from_environment, from_file, _places(environ))
    sources = tuple(InitSettingsSource(Settings, init_kwargs=level) for level in levels)
    try:
        settings = Settings(_build_sources=(sources, {}))
    except ValidationError as error:
        raise SettingsError(_explanation(error, source)) from None
    return LoadedSettings(settings=settings, warnings=(*unread, *warnings), source=source)


def _find(config: Path | None, environ: Mapping[str, str]) -> tuple[Path | None, tuple[str, ...]]:
    """
    Return the settings file, and warnings. The working directory is not searched: it may belong to another user.

    A usual place that this user may not read is skipped: HOME may still be that of another user.
    """
    if config is None and environ.get("PHASESYNC_CONFIG"):
        config = Path(environ["PHASESYNC_CONFIG"].strip())
    if config is not None:
        return config, ()
    usual = [Path("/etc/phasesync/config.toml")]
    if environ.get("HOME"):
        usual.insert(0, Path(environ["HOME"], ".config", "phasesync", "config.toml"))
    warnings: list[str] = []
    for path in usual:
        try:
            if file_exists(path):
                return path, tuple(warnings)
        except UnusableFileError as error:
            if error.passing:
                raise HostUnavailableError(f"{path}: {error.reason}") from None
            warnings.append(f"{path} is not read: {error.reason}")
    return None, tuple(warnings)


def _read(path: Path) -> dict[str, Any]:
    # Imported here, so that a command without a settings file does not pay for it.
    import tomllib

    try:
        content, status = read_regular_file(path, most_bytes=_MOST_BYTES)
        document = tomllib.loads(content.decode("utf-8"))
    except UnusableFileError as error:
        message = f"the settings file {path} cannot be read: {error.reason}"
        hint = "--config or PHASESYNC_CONFIG names it; without both, usual places are looked at"
        raise HostUnavailableError(message) if error.passing else SettingsError(message, hint=hint) from None
    except UnicodeDecodeError:
        raise SettingsError(f"{path} is not UTF-8 text") from None
    except tomllib.TOMLDecodeError as error:
        # Only the position: the text of the error quotes the file.
        place = re.search(r"\((at .*)\)$", str(error))
        raise SettingsError(f"{path} is not valid TOML {place[1] if place else ''}".rstrip()) from None
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH) or status.st_uid not in {0, os.geteuid()}:
        raise SettingsError(f"{path} may be changed by other users", hint=f"chown to yourself and chmod go-w {path}")
    _check_names(document, path)
    return document


def _check_names(document: Mapping[str, Any], path: Path) -> None:
    known = [name for name, _ in setting_names()]
    groups = {name.partition(".")[0] for name in known if "." in name}
    for name in _flattened(document, groups):
        if name in ENVIRONMENT_ONLY:
            raise SettingsError(f"{path}: {name} must not stand in the settings file", hint=ENVIRONMENT_ONLY[name])
        if name not in known and name not in groups:
            raise SettingsError(f"{path}: there is no setting {name!r}{_nearest(name, known)}")


def _flattened(document: Mapping[str, Any], groups: Iterable[str]) -> Iterator[str]:
    for name, value in document.items():
        if name in groups and isinstance(value, dict):
            yield from (f"{name}.{inner}" for inner in value)
        else:
            yield name


def _nearest(name: str, known: Iterable[str]) -> str:
    # Imported here, so that a command without a mistake does not pay for it.
    from difflib import get_close_matches

    matches = get_close_matches(name, known, n=1)
    return f"; did you mean {matches[0]}?" if matches else ""


def _from_environment(environ: Mapping[str, str]) -> tuple[dict[str, Any], tuple[str, ...]]:
    known = {variable_of(name): name for name, _ in setting_names()}
    # White space at the ends comes from a file that a variable was read from, and belongs to no setting.
    values = {variable: environ.get(variable, "").strip() for variable in known}
    # An empty variable counts as not set: that is how templates omit one.
    set_values = {known[variable]: value for variable, value in values.items() if value}
    warnings = [
        f"{variable} is not a setting and is ignored{_nearest(variable, known)}"
        for variable in sorted(environ)
        if variable.startswith(PREFIX) and variable not in known and variable not in NOT_SETTINGS
    ]
    return _nested(set_values), tuple(warnings)


def _nested(names: Mapping[str, object]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for name, value in names.items():
        group, dot, inner = name.partition(".")
        if dot:
            nested.setdefault(group, {})[inner] = value
        else:
            nested[name] = value
    return nested


def _places(environ: Mapping[str, str]) -> dict[str, Any]:
    """Return the defaults that depend on the environment: the state directory of systemd, and XDG's."""
    places: dict[str, Any] = {}
    if environ.get("STATE_DIRECTORY"):
        places["data_dir"] = environ["STATE_DIRECTORY"].partition(":")[0]
    elif environ.get("XDG_DATA_HOME"):
        places["data_dir"] = f"{environ['XDG_DATA_HOME']}/phasesync"
    return places


_UNITS = {"_ms": " milliseconds", "_s": " seconds", "_days": " days"}


def _explanation(error: ValidationError, source: Path | None) -> str:
    """Return in one line what the first wrong setting must be, never its value."""
    first = error.errors(include_url=False, include_context=True, include_input=False)[0]
    name = ".".join(str(part) for part in first["loc"][:2])
    info = dict(setting_names()).get(name)
    if info is None:
        must = "must be a table, such as [http]" if name else "must be a table"
    elif first["type"] == "value_error":
        must = first["msg"].removeprefix("Value error, ")
    elif info.annotation is int:
        bounds = {type(bound).__name__: bound for bound in info.metadata}
        unit = next((text for suffix, text in _UNITS.items() if name.endswith(suffix)), "")
        must = f"must be a whole number from {bounds['Ge'].ge:,} to {bounds['Le'].le:,}{unit}"
    else:
        must = first["msg"].replace("Input should be", "must be")
    where = f" (in {source} or as {variable_of(name)})" if source else f" (as {variable_of(name)})"
    return f"{name}: {must}{where}"
