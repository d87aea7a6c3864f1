"""
ministack as a program that serves a socket handed to it and ends with whoever started it; see `ministack.py`.

Runs in ministack's own environment, never imported. Its own command would bind a port itself, which may be
taken by then, and would outlive a test run that is killed.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading


def main() -> None:
    threading.Thread(target=_end_with_the_starter, daemon=True).start()

    from hypercorn.asyncio import serve  # type: ignore[import-not-found, unused-ignore]
    from hypercorn.config import Config  # type: ignore[import-not-found, unused-ignore]
    from ministack.app import app  # type: ignore[import-not-found, unused-ignore]

    config = Config()
    config.bind = [f"fd://{sys.argv[1]}"]
    config.keep_alive_timeout = 600
    asyncio.run(serve(app, config))


def _end_with_the_starter() -> None:
    """Our stdin is a pipe of theirs: it closes when they stop us and when they die."""
    sys.stdin.buffer.read()
    os._exit(0)  # there is nothing to save


if __name__ == "__main__":
    main()
