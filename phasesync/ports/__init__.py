"""
Every port: what the engine needs from the world, and nothing about how it is done. One module a subject.

Adapters implement these; `phasesync.bootstrap` wires them. They raise only classes of `errors.py`.
"""

from phasesync.core.fingerprint import Digests
from phasesync.ports.credentials import CredentialDraft, CredentialReport, CredentialStore, CredentialTester, Principal
from phasesync.ports.daemons import (
    ClockSetBack,
    ClockWatch,
    DaemonRegistry,
    Dispatcher,
    Load,
    MemberRole,
    SyncDispatcher,
)
from phasesync.ports.destinations import Destination, Destinations
from phasesync.ports.environments import EnvironmentReader, EnvironmentStore, SecretWrite
from phasesync.ports.issuers import (
    Footprint,
    Found,
    IssuerTraits,
    LeaseIssuer,
    LeaseIssuers,
    Leave,
    Made,
    Whereabouts,
)
from phasesync.ports.keys import KeyRing, WrappedKey, WrappedKeys
from phasesync.ports.leases import (
    ClaimedLease,
    DynamicDraft,
    DynamicStore,
    Entry,
    Given,
    LeaseClaim,
    LeaseEvent,
    LeaseRecord,
    LeaseStore,
    MakeEntry,
    MakeOrder,
    Outputs,
    Step,
)
from phasesync.ports.runtime import Clock, EventSink
from phasesync.ports.state import Acceptance, AfterRun, Claim, StateStore, SyncDraft, SyncState
from phasesync.ports.sweeps import Check, SweepGroup, SweepStore, SweptObject, SweptSync

__all__ = [
    "Acceptance",
    "AfterRun",
    "Check",
    "Claim",
    "ClaimedLease",
    "Clock",
    "ClockSetBack",
    "ClockWatch",
    "CredentialDraft",
    "CredentialReport",
    "CredentialStore",
    "CredentialTester",
    "DaemonRegistry",
    "Destination",
    "Destinations",
    "Digests",
    "Dispatcher",
    "DynamicDraft",
    "DynamicStore",
    "Entry",
    "EnvironmentReader",
    "EnvironmentStore",
    "EventSink",
    "Footprint",
    "Found",
    "Given",
    "IssuerTraits",
    "KeyRing",
    "LeaseClaim",
    "LeaseEvent",
    "LeaseIssuer",
    "LeaseIssuers",
    "LeaseRecord",
    "LeaseStore",
    "Leave",
    "Load",
    "Made",
    "MakeEntry",
    "MakeOrder",
    "MemberRole",
    "Outputs",
    "Principal",
    "SecretWrite",
    "StateStore",
    "Step",
    "SweepGroup",
    "SweepStore",
    "SweptObject",
    "SweptSync",
    "SyncDispatcher",
    "SyncDraft",
    "SyncState",
    "Whereabouts",
    "WrappedKey",
    "WrappedKeys",
]
