"""
The kinds of objects that a project can have: ONE table, from which the model of the whole project is made.

A new kind is an item in `models.py`, what it wants in `desired.py`, a function in `resolve.py`, and a line here.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final

from pydantic import Field, create_model

from phasesync.core.project import resolve
from phasesync.core.project.desired import (
    Desired,
    DesiredApp,
    DesiredCredential,
    DesiredDynamic,
    DesiredEnvironment,
    DesiredNotification,
    DesiredSync,
)
from phasesync.core.project.fields import exactly, list_of, name_of, words_of
from phasesync.core.project.models import (
    AppItem,
    CredentialItem,
    Defaults,
    DynamicItem,
    EnvironmentItem,
    NotificationItem,
    Strict,
    SyncItem,
)
from phasesync.core.project.nodes import Part
from phasesync.core.project.ownership import Manage

API_VERSION: Final = "phasesync/v1"
PROJECT: Final = "Project"


@dataclass(frozen=True, kw_only=True)
class Kind:
    """
    A kind of objects.

    Attributes:
        kind: its word, as in `Desired.kind`.
        noun: for messages.
        section: the name of its section.
        item: the model of an entry of its section.
        resolve: item, its part and the scope -> what it wants.
        description: of its section.
    """

    kind: str
    noun: str
    section: str
    item: type[Strict]
    resolve: Callable[[Any, Part, resolve.Scope], Iterable[Desired]]
    description: str


KINDS: Final = (
    Kind(
        kind=DesiredApp.kind,
        noun="app",
        section="apps",
        item=AppItem,
        resolve=resolve.apps_of,
        description="Apps, which have environments. Default: none.",
    ),
    Kind(
        kind=DesiredEnvironment.kind,
        noun="environment",
        section="environments",
        item=EnvironmentItem,
        resolve=resolve.environments_of,
        description="Environments, which have secrets. Their apps have to be in apps, or to exist. Default: none.",
    ),
    Kind(
        kind=DesiredCredential.kind,
        noun="credential",
        section="credentials",
        item=CredentialItem,
        resolve=resolve.credentials_of,
        description="Credentials for AWS. Default: none.",
    ),
    Kind(
        kind=DesiredSync.kind,
        noun="sync",
        section="syncs",
        item=SyncItem,
        resolve=resolve.syncs_of,
        description="Syncs: which environment goes where. Default: none.",
    ),
    Kind(
        kind=DesiredDynamic.kind,
        noun="dynamic secret",
        section="dynamic",
        item=DynamicItem,
        resolve=resolve.dynamics_of,
        description="Dynamic secrets: recipes for short-lived AWS credentials. Default: none.",
    ),
    Kind(
        kind=DesiredNotification.kind,
        noun="notification",
        section="notifications",
        item=NotificationItem,
        resolve=resolve.notifications_of,
        description="Notifications: whom to tell what is wrong. Default: none.",
    ),
)
"""In the order in which they can be made; in reverse they can be removed."""

BY_KIND: Final = {kind.kind: kind for kind in KINDS}


class Header(Strict):
    """Apps, environments, credentials, syncs, dynamic secrets and notifications as code, in documents of a project."""

    api_version: exactly(API_VERSION) = Field(  # type: ignore[valid-type]
        alias="apiVersion", description=f"Version of the format: {API_VERSION}.", examples=[API_VERSION]
    )
    kind: exactly(PROJECT) = Field(description=f"Kind of the document: {PROJECT}.", examples=[PROJECT])  # type: ignore[valid-type]
    name: Annotated[str, name_of("project")] = Field(
        description="Name of the project, which owns what its documents name.", examples=["shop"]
    )
    manage: words_of(Manage) = Field(  # type: ignore[valid-type]
        default=Manage.TRACK,
        description="Edits by hand of what the project owns: track shows them as drift from code, strict refuses them. "
        "Default: track.",
        examples=["strict"],
    )
    defaults: Defaults | None = Field(
        default=None, description="What holds for all syncs of the project that do not say otherwise. Default: nothing."
    )


if TYPE_CHECKING:
    Project = Header
else:
    Project = create_model(
        PROJECT,
        __base__=Header,
        __doc__=Header.__doc__,
        **{kind.section: (list_of(kind.item), Field(default=(), description=kind.description)) for kind in KINDS},
    )


def items_of(project: Project, kind: Kind) -> tuple[Any, ...]:
    """Return the items of a section."""
    items: tuple[Any, ...] = getattr(project, kind.section)
    return items
