"""
Root keys in age files, and escrow: age's own format, by the package pyrage, with no cryptography of ours.

An age file holds the same text as a plain root key file, encrypted to recipients, so that `age -d` gives such a file
back. Must not put a key or an identity into an error.
"""

import base64
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from phasesync.errors import InvalidInputError, KeyUnavailableError, SettingsError
from phasesync.host_files import UnusableFileError, read_regular_file

if TYPE_CHECKING:
    from types import ModuleType

_HEADERS: Final = (b"age-encryption.org/v1", b"-----BEGIN AGE ENCRYPTED FILE-----")
"""How an age file begins, as bytes and as text (age-encryption.org/v1, header and ASCII armor)."""

_STANZA: Final = b"-> "
_GREASE: Final = b"-grease"
"""End of the type of stanzas that are for nobody: some programs add one, so that readers skip what they do not know."""

_IDENTITY: Final = "AGE-SECRET-KEY-1"
_MAX_BYTES: Final = 65_536


def is_age_file(data: bytes) -> bool:
    """Return whether data is an age file, by its header."""
    return data.lstrip().startswith(_HEADERS)


def decrypt_age(data: bytes, identity_file: Path | None, source: str) -> bytes:
    """
    Return the content of an age file.

    Args:
        data: the file.
        identity_file: has the identities that may open it; None if the settings name none.
        source: what the data is, for messages.

    Raises:
        SettingsError: there is no identity file, or pyrage is not installed.
        KeyUnavailableError: no identity opens it, or it is damaged.
    """
    if identity_file is None:
        raise SettingsError(
            f"{source} is an age file, and nothing says which identity opens it",
            hint="name the file with the identity: PHASESYNC_AGE_IDENTITY_FILE",
        )
    pyrage = _pyrage(source)
    identities = _identities(pyrage, identity_file)
    try:
        return bytes(pyrage.decrypt(data, identities))
    except pyrage.DecryptError:
        failed = KeyUnavailableError(
            f"no identity in {identity_file} opens {source}, or it is damaged",
            hint=f"{identity_file} has to hold the identity of one of its recipients",
        )
    raise failed


def encrypt_age(plaintext: bytes, recipients: Sequence[str]) -> bytes:
    """
    Return an age file in its text form, which any one of the recipients opens.

    Raises:
        InvalidInputError: something is no recipient of the form age1…
        SettingsError: pyrage is not installed.
    """
    pyrage = _pyrage("this")
    parsed = []
    for number, recipient in enumerate(recipients, start=1):
        try:
            parsed.append(pyrage.x25519.Recipient.from_str(recipient.strip()))
        except pyrage.RecipientError:
            # It is not repeated: somebody may have typed an identity.
            raise InvalidInputError(
                f"recipient {number} is not a public key of age, which begins with age1 and has 62 characters",
                hint="age-keygen -y IDENTITY_FILE prints the public key of an identity",
            ) from None
    return bytes(pyrage.encrypt(plaintext, parsed, armored=True))


def other_recipients(data: bytes, identity_file: Path) -> int:
    """
    Return for how many recipients an age file is encrypted that are none of the identities in a file.

    The file says how many there are, and not who: nobody can encrypt something else for them without their public keys.
    """
    pyrage = _pyrage(str(identity_file))
    mine = 0
    for identity in _identities(pyrage, identity_file):
        with suppress(pyrage.DecryptError):
            pyrage.decrypt(data, [identity])
            mine += 1
    return max(0, len(_recipient_stanzas(data)) - mine)


def _recipient_stanzas(data: bytes) -> list[bytes]:
    """Return the first line of each stanza of a header that is for a recipient (age-encryption.org/v1, stanzas)."""
    text = data.strip()
    if text.startswith(_HEADERS[1]):
        text = base64.b64decode(b"".join(text.splitlines()[1:-1]))
    lines = text.partition(b"\n---")[0].splitlines()
    return [line for line in lines if line.startswith(_STANZA) and not line.split()[1].endswith(_GREASE)]


def recipients_of(identity_file: Path) -> list[str]:
    """Return the public keys of the identities in a file. SettingsError, KeyUnavailableError."""
    return [str(identity.to_public()) for identity in _identities(_pyrage(str(identity_file)), identity_file)]


def _identities(pyrage: "ModuleType", file: Path) -> list[Any]:
    try:
        content, status = read_regular_file(file, most_bytes=_MAX_BYTES)
    except UnusableFileError as error:
        raise KeyUnavailableError(
            f"the age identity file {file} cannot be read: {error.reason}",
            hint="name a file that this user may read, with the identity of one of the recipients",
        ) from None
    if status.st_mode & 0o007:
        raise SettingsError(f"the age identity file {file} may be used by everyone", hint=f"chmod 600 {file}")
    if is_age_file(content):
        raise SettingsError(
            f"the age identity file {file} is itself encrypted, and nobody is there to type its passphrase",
            hint="give phasesync an identity of its own: age-keygen -o FILE",
        )
    lines = [line.strip() for line in content.decode("utf-8", "replace").splitlines()]
    identities = []
    for line in (line for line in lines if line and not line.startswith("#")):
        if not line.startswith(_IDENTITY):
            raise SettingsError(
                f"the age identity file {file} has a line that is no identity of the form {_IDENTITY}…",
                hint="identities of plugins, and keys of SSH, are not supported: age-keygen -o FILE makes one that is",
            )
        try:
            identities.append(pyrage.x25519.Identity.from_str(line))
        except pyrage.IdentityError:
            raise SettingsError(f"the age identity file {file} has an identity that is damaged") from None
    if not identities:
        raise SettingsError(f"the age identity file {file} has no identity", hint="age-keygen -o FILE makes one")
    return identities


def _pyrage(source: str) -> "ModuleType":
    # Imported here: it is an extra, and few installations use it.
    try:
        import pyrage
    except ImportError:
        raise SettingsError(
            f"{source} needs the package pyrage, which is not installed", hint="pip install 'phasesync[age]'"
        ) from None
    return cast("ModuleType", pyrage)
