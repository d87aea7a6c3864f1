"""
What a project wants: its objects, one by one, with everything resolved that the documents themselves can resolve.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import ClassVar

from phasesync.core.credential import CredentialType
from phasesync.core.dynamic import DynamicConfig
from phasesync.core.notification import Rules
from phasesync.core.project.nodes import Document, Part, Place
from phasesync.core.project.ownership import Manage
from phasesync.core.sync import Adopt, SyncConfig


@dataclass(frozen=True, kw_only=True)
class Reference:
    """A name of another object. `name`: of an environment `app/env`."""

    kind: str
    name: str
    place: Place


@dataclass(frozen=True, kw_only=True)
class Desired:
    """
    An object that a project wants.

    Attributes:
        name: of an environment `app/env`.
        part: where it is written.
        references: the objects that have to exist, in the documents or in the store.
    """

    kind: ClassVar[str]

    name: str
    part: Part = field(repr=False, compare=False)
    references: tuple[Reference, ...] = field(default=(), repr=False, compare=False)

    @property
    def place(self) -> Place:
        """Where it is written."""
        return self.part.place()

    @property
    def key(self) -> str:
        """Its name as the store compares it: without regard to case."""
        return self.name.lower()


@dataclass(frozen=True, kw_only=True)
class DesiredApp(Desired):
    """An app. `windows`: texts."""

    kind = "app"

    description: str = ""
    windows: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class DesiredEnvironment(Desired):
    """
    An environment.

    Attributes:
        folders: paths, sorted, without the root.
        keys: folder and key of what must have a value.
        values_file: file that sops has encrypted, None if values are set by hand. `values_place`: where it is named.
        approvers: how many others have to approve a change, 0 for nobody; None: it is left alone.
    """

    kind = "environment"

    app: str
    environment: str
    folders: tuple[str, ...] = ()
    keys: tuple[tuple[str, str], ...] = ()
    values_file: str | None = None
    values_place: Place | None = field(default=None, repr=False, compare=False)
    approvers: int | None = None


class SecretUse(StrEnum):
    """What a secret is for that a document says the origin of. The values are for messages."""

    ACCESS_KEY = "secret access key"
    CHANNEL = "channel"
    SIGNING = "signing secret"


@dataclass(frozen=True, kw_only=True)
class SecretOrigin:
    """
    Where a secret access key, a channel of a notification or its signing secret comes from: one of these.

    Attributes:
        env: name of an environment variable.
        file: path.
        prompt: it is asked for.
        place: where that is written.
        use: what it is for.
    """

    use: SecretUse = SecretUse.ACCESS_KEY
    env: str | None = None
    file: str | None = None
    prompt: bool = False
    place: Place = field(repr=False, compare=False)


@dataclass(frozen=True, kw_only=True)
class DesiredCredential(Desired):
    """
    A credential.

    Attributes:
        external_id: None if it is kept, or made anew for a new credential.
        no_external_id: the role is assumed without one.
        account: to pin, None if the pinned one is kept.
        secret: None if the stored secret access key is kept.
    """

    kind = "credential"

    type: CredentialType
    region: str
    role_arn: str | None = None
    external_id: str | None = field(default=None, repr=False)
    no_external_id: bool = False
    source: str | None = None
    account: str | None = None
    access_key_id: str | None = field(default=None, repr=False)
    secret: SecretOrigin | None = None


@dataclass(frozen=True, kw_only=True)
class DesiredSync(Desired):
    """A sync. `region`: None for the credential's. `adopt`: a consent for when it is added."""

    kind = "sync"

    app: str
    environment: str
    path: str
    credential: str
    destination: str
    region: str | None
    config: SyncConfig
    adopt: Adopt | None = None

    @property
    def environment_label(self) -> str:
        """`app/environment`."""
        return f"{self.app}/{self.environment}"


@dataclass(frozen=True, kw_only=True)
class DesiredDynamic(Desired):
    """A dynamic secret. `config.iam_path`: None for the default; `config.keys`: the renamed ones only."""

    kind = "dynamic"

    app: str
    environment: str
    path: str
    credential: str
    issuer: str
    config: DynamicConfig

    @property
    def environment_label(self) -> str:
        """`app/environment`."""
        return f"{self.app}/{self.environment}"


@dataclass(frozen=True, kw_only=True)
class DesiredNotification(Desired):
    """
    A notification.

    Attributes:
        to: a channel without secrets; None if it has some, or is kept.
        channel: where the channel comes from; None if it is in `to`, or is kept.
        signing_secret: None if it is kept, or made anew for a new webhook.
        app: None if it is about everything.
    """

    kind = "notification"

    rules: Rules
    to: str | None = None
    channel: SecretOrigin | None = None
    signing_secret: SecretOrigin | None = None
    app: str | None = None


@dataclass(frozen=True, kw_only=True)
class DesiredProject:
    """
    A project.

    Attributes:
        documents: that it is written in, in the order of reading.
        objects: kind -> its objects in the order of the documents; every kind of `kinds.KINDS` has an entry.
    """

    name: str
    manage: Manage
    documents: tuple[Document, ...] = field(repr=False, compare=False)
    objects: Mapping[str, tuple[Desired, ...]]

    @property
    def place(self) -> Place:
        """Where it is named first."""
        return self.documents[0].place("name")

    @property
    def files(self) -> tuple[str, ...]:
        """The files that it is written in."""
        return tuple(dict.fromkeys(document.file for document in self.documents))

    @property
    def empty(self) -> bool:
        """Whether it has no object."""
        return not any(self.objects.values())

    def __iter__(self) -> Iterator[Desired]:
        """Go through the objects in the order in which they can be made."""
        for objects in self.objects.values():
            yield from objects
