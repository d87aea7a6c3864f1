"""`python -m phasesync.emulator`: the emulator in the foreground, until SIGINT or SIGTERM. It keeps nothing."""

import argparse
import errno
import os
import signal
import sys
import threading
from typing import Final

from phasesync.emulator.http import HOST
from phasesync.emulator.server import AwsEmulator, require_moto
from phasesync.errors import SettingsError

REGION: Final = "eu-central-1"


def main(arguments: list[str] | None = None) -> int:
    """Serve until a signal comes; return the exit code: 0, 1 if it cannot listen or write, 6 without the extra."""
    parser = argparse.ArgumentParser(
        prog="python -m phasesync.emulator",
        description="An AWS for trying things out: Secrets Manager, KMS, STS and IAM, about as strict as AWS. "
        "It runs until SIGINT or SIGTERM and forgets everything at its end.",
    )
    parser.add_argument("--port", type=_port, required=True, help="where to listen; 0 = a free port")
    parser.add_argument("--host", default=HOST, help="address to listen on (default: %(default)s)")
    options = parser.parse_args(arguments)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    try:
        require_moto("python -m phasesync.emulator")
        emulator = AwsEmulator(host=options.host, port=options.port)
    except SettingsError as error:
        return _fail(error.message, error.hint, error.exit_code)
    except OSError as error:
        taken = error.errno == errno.EADDRINUSE
        reason = "the port is in use" if taken else error.strerror or "no such address"
        hint = "--port 0 takes a free port" if taken else None
        return _fail(f"cannot listen on {options.host}:{options.port}: {reason}", hint, 1)
    with emulator:
        if sys.stdout is not None:  # None = it was closed; whoever chose the port knows the URL.
            try:
                sys.stdout.write(_exports(emulator.url))
                sys.stdout.flush()
            except OSError as error:
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python writes the rest at its end.
                return _fail(f"cannot write the variables to stdout: {error.strerror}", None, 1)
        while not stop.wait(1):
            pass
    return 0


def _exports(url: str) -> str:
    """Return what a shell evaluates to use the emulator with any AWS SDK. It accepts any key that IAM did not make."""
    return (
        f"# AWS emulator at {url}, until Ctrl-C. For the shell that uses it:\n"
        f"export AWS_ENDPOINT_URL={url}\n"
        "export AWS_ACCESS_KEY_ID=AKIAEMULATOR00000000\n"
        "export AWS_SECRET_ACCESS_KEY=emulator\n"
        f"export AWS_REGION={REGION} AWS_DEFAULT_REGION={REGION}\n"
    )


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port")
    return int(text)


def _fail(message: str, hint: str | None, exit_code: int) -> int:
    sys.stderr.write(f"error: {message}\n")
    if hint:
        sys.stderr.write(f"hint: {hint}\n")
    return exit_code


if __name__ == "__main__":
    sys.exit(main())
