"""However many threads allocate memory, they share it."""

import os
import platform
import subprocess
import sys

import pytest

from phasesync.daemon.arenas import MOST_ARENAS

PROGRAM = """
import ctypes, sys, threading
from phasesync.daemon.arenas import share_arenas

print(share_arenas())
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
together = threading.Barrier(24)
def allocate():
    together.wait()
    for _ in range(2000):
        libc.malloc(2000)
threads = [threading.Thread(target=allocate) for _ in range(24)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
libc.fdopen.restype = ctypes.c_void_p
stream = ctypes.c_void_p(libc.fdopen(1, b"w"))
sys.stdout.flush()
libc.malloc_info(0, stream)
libc.fflush(stream)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has arenas")
@pytest.mark.parametrize("environ", [{}, {"MALLOC_ARENA_MAX": "5"}], ids=["as it is", "set otherwise"])
def test_threads_share_two_arenas_unless_the_environment_says_otherwise(environ: dict[str, str]) -> None:
    kept = {name: text for name, text in os.environ.items() if name not in ("MALLOC_ARENA_MAX", "GLIBC_TUNABLES")}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=kept | environ, capture_output=True, text=True, check=True
    )

    assert done.stdout.startswith(f"{not environ}\n")
    arenas = done.stdout.count("<heap nr=")
    assert arenas <= MOST_ARENAS if not environ else arenas == 5
