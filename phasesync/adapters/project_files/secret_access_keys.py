"""Obtains a secret from where a document says it is. No message repeats any of it."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from phasesync.core.channels import parse_channel
from phasesync.core.credential import check_secret_access_key
from phasesync.core.model import SecretValue
from phasesync.core.project.desired import SecretOrigin, SecretUse
from phasesync.core.webhook_signature import check_signing_secret
from phasesync.errors import DocumentError, InvalidInputError

_MAX_BYTES: Final = 4_096


def resolve_secret(origin: SecretOrigin, *, prompt: Callable[[], str]) -> SecretValue:
    """
    Return a secret access key, a channel of a notification, or its signing secret.

    Args:
        origin: where it comes from. Of a file one final newline is dropped.
        prompt: asks for it; called only if the document says so.

    Raises:
        DocumentError: it is not there, or is no such secret; with the place in the document.
    """
    try:
        secret = SecretValue(_text(origin, prompt))
        match origin.use:
            case SecretUse.ACCESS_KEY:
                return check_secret_access_key(secret)
            case SecretUse.CHANNEL:
                return parse_channel(secret.reveal_text()).url
            case SecretUse.SIGNING:
                return check_signing_secret(secret)
    except InvalidInputError as error:
        raise DocumentError([f"{origin.place}: {error.message}{f'; {error.hint}' if error.hint else ''}"]) from None


def _text(origin: SecretOrigin, prompt: Callable[[], str]) -> str:
    if origin.env is not None:
        if not (text := os.environ.get(origin.env, "")):
            raise InvalidInputError(f"the environment variable {origin.env} is not set", hint=f"set {origin.env}")
        return text
    if origin.file is not None:
        return _of_file(Path(origin.file), origin.use)
    return prompt()


def _of_file(path: Path, use: SecretUse) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "its name has a NUL character"
        raise InvalidInputError(f"the file {path} cannot be read: {reason}") from None
    if len(data) > _MAX_BYTES:
        raise InvalidInputError(f"the file {path} is too long for a {use}", hint="it holds that alone")
    try:
        return data.decode("utf-8").removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        raise InvalidInputError(f"the file {path} is not UTF-8 text") from None
