"""
What a new name of an app, an environment or a dynamic secret changes at AWS, from the store alone: no call is made.

A sync with one object for each key makes remote names from a template, with the names of app and environment. After a
rename its next run writes objects with new names, and no longer wants those with the old ones. Names of syncs and
credentials are in no template. Users of leases that exist keep their names; later ones get new names.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from phasesync.core.dynamic import DynamicSecret
from phasesync.core.lease_users import check_user_template, render_user_name
from phasesync.core.remote_names import name_of_key
from phasesync.core.sync import Layout, Sync, SyncDraft, SyncFilter
from phasesync.engine.context import Context
from phasesync.engine.sync_validation import SyncValidator
from phasesync.errors import InvalidInputError


@dataclass(frozen=True, kw_only=True)
class RenamedObject:
    """A remote object that gets another name: `new` is written, and the sync no longer wants `old`."""

    sync: str
    old: str
    new: str


@dataclass(frozen=True, kw_only=True)
class RenamePlan:
    """
    What a rename changes at AWS.

    Attributes:
        objects: by sync and old name; empty = nothing at AWS gets another name.
        notes: what else follows, as lines for the operator.
    """

    objects: tuple[RenamedObject, ...]
    notes: tuple[str, ...]


def plan_renamed_app(context: Context, app: str, new_name: str) -> RenamePlan:
    """
    Return what a new name of an app changes at AWS.

    Raises:
        NotFoundError: there is no such app.
        InvalidInputError, AlreadyExistsError: AWS does not take a new name, or another sync has it.
    """
    environments = {environment.id for environment in context.store.apps.list_environments(app)}
    return _plan(context, app, environments, lambda words: words | {"app": new_name})


def plan_renamed_environment(context: Context, app: str, environment: str, new_name: str) -> RenamePlan:
    """Return what a new name of an environment changes at AWS. Raises as `plan_renamed_app` does."""
    renamed = context.store.apps.get_environment(app, environment)
    return _plan(context, app, {renamed.id}, lambda words: words | {"env": new_name})


def renamed_users(dynamic: DynamicSecret, words: Mapping[str, str]) -> str | None:
    """
    Return a line about the users of later leases if new names give them other names; None if they do not.

    InvalidInputError: AWS would not take their names.
    """
    template, former = dynamic.config.user_template, words_of(dynamic)
    check_user_template(template, words)
    old, new = (render_user_name(template, each, lambda: "...") for each in (former, words))
    if old == new:
        return None
    return (
        f"new leases of {dynamic.name} get users or sessions named {new}, up to now {old}; leases that exist keep "
        f"theirs; a policy that names them has to follow: phasesync aws policy --dynamic {words['name']}"
    )


def words_of(dynamic: DynamicSecret) -> dict[str, str]:
    """Return the words for the template of the users of a dynamic secret."""
    return {"app": dynamic.app, "env": dynamic.environment, "name": dynamic.name}


def _plan(
    context: Context, app: str, environment_ids: set[str], renamed: Callable[[dict[str, str]], dict[str, str]]
) -> RenamePlan:
    objects: list[RenamedObject] = []
    notes: list[str] = []
    for sync in context.store.syncs.list_syncs(SyncFilter(app=app)):
        if sync.environment_id in environment_ids and sync.config.layout is Layout.PER_KEY:
            words = renamed({"app": sync.app, "env": sync.environment})
            if found := _renamed_objects(context, sync, app=words["app"], environment=words["env"]):
                objects += found
                notes += _notes_of(sync)
    dynamics = [each for each in context.store.dynamics.list_all() if each.environment_id in environment_ids]
    lines = (renamed_users(dynamic, renamed(words_of(dynamic))) for dynamic in dynamics if dynamic.error is None)
    return RenamePlan(objects=tuple(objects), notes=(*notes, *(line for line in lines if line is not None)))


def _renamed_objects(context: Context, sync: Sync, *, app: str, environment: str) -> list[RenamedObject]:
    listed = context.store.secrets.list_secrets(sync.app, sync.environment, path=sync.path)
    found = []
    for secret in listed:
        old, new = (
            name_of_key(sync.config, app=words[0], environment=words[1], path=sync.path, key=secret.key)
            for words in ((sync.app, sync.environment), (app, environment))
        )
        if old != new:
            found.append(RenamedObject(sync=sync.name, old=old, new=new))
    if found:
        _check(context, sync, app=app, environment=environment)
    return found


def _check(context: Context, sync: Sync, *, app: str, environment: str) -> None:
    """Raise an error if the destination does not take a new remote name, or if another sync has it."""
    draft = SyncDraft(
        name=sync.name,
        app=app,
        environment=environment,
        path=sync.path,
        credential=sync.credential,
        destination_kind=sync.destination_kind,
        region=sync.region,
        config=sync.config,
        account=sync.account,
        adopt=sync.adopt,
    )
    try:
        SyncValidator(context).check_names(
            draft, account=sync.account, except_for=sync.name, stored_as=(sync.app, sync.environment)
        )
    except InvalidInputError as error:
        raise InvalidInputError(f"the sync {sync.name}: {error.message}", hint=error.hint) from None


def _notes_of(sync: Sync) -> Iterable[str]:
    """Yield notes: what happens to the objects with the old names, and which policy has to allow the new ones."""
    yield (
        f"{sync.name}: the old objects stay at AWS as they are, and nothing updates them any more; the guard holds the "
        f"new ones for an approval: phasesync syncs plan {sync.name}"
    )
    yield f"{sync.name}: its policy has to allow the new names: phasesync aws policy {sync.name} prints it afterwards"
