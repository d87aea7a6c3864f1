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
    Checkpoint,
    IssuedCredentials,
    IssuerTraits,
    LeaseIssuer,
    LeaseIssuers,
    PartialIssue,
    RevokeOutcome,
    UserLocation,
)
from phasesync.ports.keys import KeyRing, WrappedKey, WrappedKeys
from phasesync.ports.leases import (
    ClaimedLease,
    DynamicDraft,
    DynamicStore,
    Entry,
    KeptLease,
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
    "Checkpoint",
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
    "IssuedCredentials",
    "IssuerTraits",
    "KeptLease",
    "KeyRing",
    "LeaseClaim",
    "LeaseEvent",
    "LeaseIssuer",
    "LeaseIssuers",
    "LeaseRecord",
    "LeaseStore",
    "Load",
    "MakeEntry",
    "MakeOrder",
    "MemberRole",
    "Outputs",
    "PartialIssue",
    "Principal",
    "RevokeOutcome",
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
    "UserLocation",
    "WrappedKey",
    "WrappedKeys",
]
