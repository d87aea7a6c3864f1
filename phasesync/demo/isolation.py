"""
A private folder and a private environment for the tour and the sandbox, removed at the end.

All settings, credentials, profiles and proxies of the user are put aside, and no call can reach AWS.
Child processes inherit the environment. Must not start anything.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from phasesync.errors import SettingsError

REGION: Final = "eu-central-1"

_PUT_ASIDE: Final = ("PHASESYNC_", "AWS_", "MOTO_", "BOTO_")
_PUT_ASIDE_TOO: Final = frozenset(
    {
        # Set by a service manager that may have started this process; not meant for the daemon.
        *("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "CREDENTIALS_DIRECTORY", "STATE_DIRECTORY"),
        # The emulator is on this machine; a proxy is not.
        *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"),
        "INITIAL_NO_AUTH_ACTION_COUNT",  # moto's
    }
)

_CONFIG: Final = """\
# What differs from the defaults: the folders, and a free port.
data_dir = {data}
root_key_file = {key}

[http]
listen = "127.0.0.1:0"

[daemon]
claim_ttl_s = 6   # the minimum: the tour kills a daemon and waits for its successor
"""


@contextmanager
def private_folder(prefix: str = "phasesync-demo-") -> Iterator[Path]:
    """Make a folder that only this user can enter; it is removed afterwards. SettingsError: it cannot be made."""
    try:
        folder = Path(tempfile.mkdtemp(prefix=prefix)).resolve()
    except OSError as error:
        message = f"a folder for temporary files cannot be made: {error.strerror}"
        raise SettingsError(message, hint="set TMPDIR to a folder that can be written") from None
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def private_environment(folder: Path, *, endpoint: str) -> Iterator[Path]:
    """
    Replace the environment of this process.

    Args:
        folder: gets the settings file; data directory and root key are named in it.
        endpoint: URL of the emulator, which gets all calls to AWS.

    Returns:
        The settings file.
    """
    config = folder / "config.toml"
    config.write_text(_CONFIG.format(data=_quoted(folder / "data"), key=_quoted(folder / "keys" / "root.key")))
    config.chmod(0o600)
    before = dict(os.environ)
    kept = {name: value for name, value in before.items() if not _is_put_aside(name)}
    os.environ.clear()
    os.environ.update(kept, **_aws_variables(folder, endpoint), PHASESYNC_CONFIG=str(config))
    try:
        yield config
    finally:
        os.environ.clear()
        os.environ.update(before)


def _is_put_aside(name: str) -> bool:
    return name.startswith(_PUT_ASIDE) or name.upper() in _PUT_ASIDE_TOO


def _quoted(path: Path) -> str:
    """Return a path as TOML writes it: TOML's basic strings are those of JSON."""
    return json.dumps(str(path), ensure_ascii=False)


def _aws_variables(folder: Path, endpoint: str) -> dict[str, str]:
    missing = str(folder / "does-not-exist")
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        # The identity of the host, which assumes the roles. No account of the emulator has this key.
        "AWS_ACCESS_KEY_ID": "AKIADEMOHOST00000000",
        "AWS_SECRET_ACCESS_KEY": "demo",
        "AWS_CONFIG_FILE": missing,
        "AWS_SHARED_CREDENTIALS_FILE": missing,
        "AWS_EC2_METADATA_DISABLED": "true",
        "NO_PROXY": "127.0.0.1",
        "no_proxy": "127.0.0.1",
    }
