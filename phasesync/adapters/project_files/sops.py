"""
Values from a file that sops has encrypted, by the user's own `sops`: keys (KMS, age, PGP) and the check of the MAC stay
with it. Must not log or repeat what it prints on its output: those are values.

Names and values:

    KEY: text              key KEY in /
    db: {PASSWORD: text}   key PASSWORD in /db, and so on, to any depth: a mapping is a folder
    PORT: 5432, FLAG: true type json, as an import of JSON reads them; likewise a list
    KEY: null              an error: it is not a value
"""

import os
import selectors
import signal
import subprocess
import time
from contextlib import suppress
from typing import IO, Final, cast

import yaml

from phasesync.core.canonical_json import Json, parse_json_document
from phasesync.core.model import SecretValue
from phasesync.core.names import check_key, normalise_path
from phasesync.core.secret_json import value_of_member
from phasesync.errors import DestinationUnavailableError, InvalidInputError, SettingsError

TIMEOUT_S: Final = 60.0
"""KMS answers within seconds; an agent of PGP may ask a person for a passphrase."""
MAX_BYTES: Final = 16 * 1_048_576
_MAX_ERROR_BYTES: Final = 65_536
_SHOWN: Final = 200
_NO_KEY: Final = 128


def decrypt(path: str, *, timeout_s: float = TIMEOUT_S) -> dict[tuple[str, str], SecretValue]:
    """
    Return the values of a file: folder and key -> value.

    Args:
        path: of the file.
        timeout_s: sops is killed after it, with every process that it has started.

    Raises:
        SettingsError: sops is not installed.
        DestinationUnavailableError: it took too long.
        InvalidInputError: sops refused, or the file holds something that is no value or no key.
    """
    if not os.path.isfile(path):
        raise InvalidInputError(
            f"{path} does not exist",
            hint="values: {sops: PATH} names it; a relative path starts from the folder of its document",
        )
    _check_one_document(path)
    # `--` is not in all releases: a path that begins with a hyphen would be an option.
    named = path if path.startswith("/") else os.path.join(".", path)
    output = _run(["sops", "decrypt", "--output-type", "json", named], path, timeout_s)
    try:
        document = parse_json_document(output)
    except InvalidInputError as error:
        raise InvalidInputError(f"{path}: what sops printed is not JSON: {error.message}") from None
    if not isinstance(document, dict):
        raise InvalidInputError(f"{path} has no names", hint="it holds one mapping from names to values")
    values: dict[tuple[str, str], SecretValue] = {}
    _collect(document, "/", values, path)
    return values


def _check_one_document(path: str) -> None:
    """Refuse YAML with several documents: as JSON, sops prints the first one and says nothing of the others."""
    if not path.lower().endswith((".yaml", ".yml")):
        return
    try:
        with open(path, "rb") as file:
            events = yaml.parse(file.read(MAX_BYTES), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        documents = sum(isinstance(event, yaml.DocumentStartEvent) for event in events)
    except (OSError, yaml.YAMLError):
        return  # sops says what is wrong with it.
    if documents > 1:
        raise InvalidInputError(
            f"{path} has {documents} documents, and sops prints the first one only",
            hint="write them as one, or as files",
        )


def _collect(members: dict[str, Json], folder: str, values: dict[tuple[str, str], SecretValue], path: str) -> None:
    for key, member in members.items():
        try:
            if isinstance(member, dict):
                _collect(member, normalise_path(f"{folder.rstrip('/')}/{key}"), values, path)
                continue
            check_key(key)
        except InvalidInputError as error:
            if error.message.startswith(f"{path}: "):
                raise
            raise InvalidInputError(f"{path}: {error.message}", hint=error.hint) from None
        if member is None:
            raise InvalidInputError(
                f"{path}: the value of {key} in {folder} is null, which is not a value",
                hint=f"give it one, or remove it: sops edit {path}",
            )
        values[folder, key] = value_of_member(member)


def _run(command: list[str], path: str, timeout_s: float) -> bytes:
    """Run sops; return what it printed. No shell; the environment but ours, since its keys are found by it."""
    try:
        # In a group of its own, so that the processes that it starts can be killed with it.
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            # Our root key is none of its business.
            env={name: value for name, value in os.environ.items() if not name.startswith("PHASESYNC_")},
            start_new_session=True,
        )
    except FileNotFoundError:
        raise SettingsError(
            f"{path} is encrypted with sops, and sops is not installed here",
            hint="install sops 3.9 or newer (https://getsops.io) and have it in PATH",
        ) from None
    except OSError as error:
        raise SettingsError(f"sops cannot be started: {error.strerror}", hint="make it executable") from None
    streams = (cast("IO[bytes]", process.stdout), cast("IO[bytes]", process.stderr))
    try:
        output, errors = _read(streams, time.monotonic() + timeout_s, path, timeout_s)
        process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        raise _overdue(path, timeout_s) from None
    finally:
        if process.returncode is None:  # Once it was waited for, its number may belong to another process.
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        for stream in streams:
            stream.close()
    if process.returncode != 0:
        raise _refused(path, process.returncode, errors)
    return output


def _read(streams: tuple[IO[bytes], IO[bytes]], deadline: float, path: str, timeout_s: float) -> tuple[bytes, bytes]:
    """Read both streams to their ends."""
    printed = {stream.fileno(): bytearray() for stream in streams}
    output, errors = (printed[stream.fileno()] for stream in streams)
    with selectors.DefaultSelector() as selector:
        for stream in streams:
            selector.register(stream, selectors.EVENT_READ)
        while selector.get_map():
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                raise _overdue(path, timeout_s)
            for key, _ in selector.select(left_s):
                chunk = os.read(key.fd, 65_536)
                if not chunk:
                    selector.unregister(key.fileobj)
                printed[key.fd] += chunk
            del errors[_MAX_ERROR_BYTES:]
            if len(output) > MAX_BYTES:
                raise InvalidInputError(f"{path} holds more than {MAX_BYTES:,} bytes", hint="split it")
    return bytes(output), bytes(errors)


def _overdue(path: str, timeout_s: float) -> DestinationUnavailableError:
    return DestinationUnavailableError(
        f"sops did not decrypt {path} within {timeout_s:g} s",
        hint=f"try it alone: sops decrypt {path}; an agent may wait for a passphrase, or KMS may be out of reach",
    )


_MEANINGS: Final = {
    2: "it cannot read the file",
    24: "the MAC does not decrypt",
    25: "a value does not decrypt: the file was changed without sops",
    51: "the MAC does not fit: the file was changed without sops",
    52: "it has no MAC: it is not a file of sops, or was changed without it",
    _NO_KEY: "no key decrypts it",
}
"""Exit code of sops -> what it means (getsops/sops, cmd/sops/codes/codes.go)."""


def _refused(path: str, code: int, errors: bytes) -> InvalidInputError:
    """
    Return the error for an exit code of sops.

    What sops printed is repeated only if it found no key, so that nothing was decrypted: its other errors may quote a
    value, as `strconv.Atoi: parsing "VALUE"` does.
    """
    said = _MEANINGS.get(code, "")
    if code == _NO_KEY:
        lines = [line.strip() for line in errors.decode("utf-8", "replace").splitlines()]
        first = next((line for line in lines if line), "")
        printed = "".join(character if character.isprintable() else " " for character in first)[:_SHOWN]
        said += f": {printed}" if printed else ""
    return InvalidInputError(
        f"sops could not decrypt {path} (exit code {code}){f': {said}' if said else ''}",
        hint=f"sops decrypt {path} says more",
    )
