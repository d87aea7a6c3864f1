"""
How claimed work reaches a thread.

`threads.py`: what this process claimed itself. `procrastinate.py`: syncs from a queue that all daemons share; it is
imported only where `daemon.dispatch` asks for it.
"""

from phasesync.adapters.dispatch.threads import SyncThreadDispatcher, ThreadDispatcher

__all__ = ["SyncThreadDispatcher", "ThreadDispatcher"]
