"""
A Debian whose root is this machine's, under an empty layer of its own: what dpkg does there happens nowhere else.

    with DebianRoot() as root:
        root.done("dpkg", "--install", root.bring(package))
        root.path("/etc/phasesync/config.toml").read_text()     as the commands inside see it

No container and no download: a mount namespace with an overlay on memory, and chroot. It has the real dpkg with its
list of packages, and the real /usr/bin/python3. No systemd runs in it. It needs root and overlayfs, else
`DebianRoot.why_not` says what is missing.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Self

PROGRAMS = ("chroot", "dpkg", "mount", "nsenter", "setpriv", "unshare")
_LAYERS = "/mnt"
"""A folder that exists everywhere and that nothing here uses; in the namespace alone a file system is mounted on it."""
_MAKE = f"""
set -e
mount -t tmpfs -o mode=0755 layers {_LAYERS}
mkdir {_LAYERS}/changed {_LAYERS}/work {_LAYERS}/root
mount -t overlay overlay -o lowerdir=/,upperdir={_LAYERS}/changed,workdir={_LAYERS}/work {_LAYERS}/root
mount -t proc proc {_LAYERS}/root/proc
mount --rbind /dev {_LAYERS}/root/dev
echo made
exec cat
"""


class DebianRoot:
    """A root file system that is thrown away."""

    def __init__(self) -> None:
        self._holder = subprocess.Popen(
            # `cat` holds the namespace until this end of its input is closed, also when the test process dies.
            ["unshare", "--mount", "sh", "-c", _MAKE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self._holder.stdout is not None and self._holder.stderr is not None
        if self._holder.stdout.readline() != "made\n":
            reason = self._holder.stderr.read().strip()
            self.close()
            raise OSError(reason)

    @staticmethod
    @cache
    def why_not() -> str | None:
        """Return what such a root lacks here; None if it can be made."""
        missing = [name for name in PROGRAMS if shutil.which(name) is None]
        if missing:
            return f"not installed here: {', '.join(missing)}"
        if os.geteuid() != 0:
            return "only root may mount"
        try:
            DebianRoot().close()
        except OSError as error:
            return f"no overlay can be mounted here: {error}"
        return None

    def path(self, inside: str) -> Path:
        """Return where a path of the root is for this process."""
        return Path(f"/proc/{self._holder.pid}/root{_LAYERS}/root{inside}")

    def changed(self) -> list[str]:
        """Return every file and folder that is not as it was, but for what was removed."""
        layer = Path(f"/proc/{self._holder.pid}/root{_LAYERS}/changed")
        # An overlay marks what was removed with a character device.
        return sorted(f"/{path.relative_to(layer)}" for path in layer.rglob("*") if not path.is_char_device())

    def bring(self, file: Path) -> str:
        """Copy a file into the root; return its path there."""
        shutil.copyfile(file, self.path(f"/root/{file.name}"))
        return f"/root/{file.name}"

    def command(self, *words: str, user: str | None = None) -> list[str]:
        """Return the words with which a command starts inside; as another user on demand."""
        inside = ["nsenter", f"--mount=/proc/{self._holder.pid}/ns/mnt", "chroot", f"{_LAYERS}/root"]
        if user is not None:
            inside += ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", "--"]
        return [*inside, *words]

    def run(
        self, *words: str, user: str | None = None, stdin: str = "", environ: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a command inside."""
        return subprocess.run(
            self.command(*words, user=user),
            input=stdin,
            env=clean(environ),
            cwd="/",
            capture_output=True,
            text=True,
            check=False,
        )

    def done(
        self, *words: str, user: str | None = None, stdin: str = "", environ: Mapping[str, str] | None = None
    ) -> str:
        """Run a command inside that succeeds; return what it printed."""
        result = self.run(*words, user=user, stdin=stdin, environ=environ)
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout

    def close(self) -> None:
        """Forget everything."""
        self._holder.communicate()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def clean(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment of a fresh login, and these variables."""
    places = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    return {
        "PATH": places,
        "HOME": "/root",
        "LC_ALL": "C.UTF-8",
        "DEBIAN_FRONTEND": "noninteractive",
        **(environ or {}),
    }


def dpkg(*words: str) -> Sequence[str]:
    """Return a call of dpkg that neither waits for disks nor builds indexes of other packages."""
    return ("dpkg", "--force-unsafe-io", "--no-triggers", "--force-confdef", *words)
