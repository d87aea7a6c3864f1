"""
What the objects at AWS tell of an installation whose root key was lost: its syncs, environments and values. Pure.

The tags say which objects belong together. They do not say which app, environment and folder that was, nor in which
layout; names tell it where they have the usual form, and otherwise an operator says it (`Said`).
"""

import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Final

from phasesync.core.arns import is_key_arn
from phasesync.core.counted import counted
from phasesync.core.fingerprint import Digests, fingerprint
from phasesync.core.model import SecretValue, ValueType
from phasesync.core.names import check_key, check_name, is_name, normalise_path
from phasesync.core.payloads import build_payloads
from phasesync.core.planning.ownership import owner_tags
from phasesync.core.rebuild_values import Shown, members_of, value_of
from phasesync.core.remote import TAG_SYNC, JournalEntry, Payload
from phasesync.core.remote_names import beginning_of_names, check_template, key_of_name
from phasesync.core.secret_json import literal_value
from phasesync.core.sync import Layout, SyncConfig, SyncDraft
from phasesync.errors import InvalidInputError

_TEMPLATE: Final = "{app}/{env}/{key}"
_TEMPLATE_WITH_PATH: Final = "{app}/{env}/{path}/{key}"
_USUAL: Final = re.compile(r"([^/]+)/([^/]+)(?:/(.+))?/([^/]+)")
_ID: Final = re.compile(r"[0-9a-f]{32}")
_OBJECTS_NAMED: Final = 3
_KEYS_NAMED: Final = 3

_SKIP: Final = 'put its id under "skip" in the file of --mapping'
_SAY: Final = "say what it was in the file of --mapping, or skip it there"


@dataclass(frozen=True, kw_only=True)
class FoundObject:
    """
    One object with our tags, with its value.

    Attributes:
        sync_id: of the sync that its tag names.
        version_id: of the value.
        kms_key: as AWS names it; None means the AWS-managed key.
    """

    sync_id: str
    remote_name: str
    account: str
    region: str
    arn: str
    version_id: str
    value: SecretValue
    kms_key: str | None = None


@dataclass(frozen=True, kw_only=True)
class Said:
    """
    What an operator, or the former database, says of a sync. What is None follows from the names.

    Attributes:
        region: where it writes; what it has elsewhere is left behind, as after a move.
        names: the remote name, or the template of names.
        config: all settings, from the former database.
    """

    name: str | None = None
    app: str | None = None
    environment: str | None = None
    path: str | None = None
    region: str | None = None
    layout: Layout | None = None
    names: str | None = None
    config: SyncConfig | None = None


@dataclass(frozen=True, kw_only=True)
class RebuiltSync:
    """
    One sync as it will be.

    Attributes:
        objects: what is at AWS and belongs to it, by name.
        left_behind: objects with its tags that it does not want now, as after a rename.
        entries: the journal that makes them ours.
        writes: names of objects that its first run writes: what the store has then differs from what is there.
        unwritable: names of objects that it wants and cannot write -> why.
    """

    id: str
    name: str
    app: str
    environment: str
    path: str
    region: str
    account: str
    config: SyncConfig
    objects: tuple[FoundObject, ...]
    left_behind: tuple[FoundObject, ...] = ()
    entries: tuple[JournalEntry, ...] = ()
    writes: tuple[str, ...] = ()
    unwritable: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Problem:
    """
    Why a sync cannot be rebuilt as it is, and what to do.

    Attributes:
        objects: all with its tag.
    """

    sync_id: str
    reason: str
    hint: str
    objects: tuple[FoundObject, ...]

    @property
    def subject(self) -> str:
        """The sync for a message: its id, and its objects with their Regions."""
        return f"the sync {_shown_id(self.sync_id)} ({named(self.objects)})"


Folder = tuple[str, str, str]
"""App, environment and path."""


@dataclass(frozen=True, kw_only=True)
class RebuildPlan:
    """
    What a rebuild makes.

    Attributes:
        syncs: by name.
        folders: folder -> key -> value as it is stored.
        problems: by sync id.
    """

    instance_id: str
    syncs: tuple[RebuiltSync, ...]
    folders: Mapping[Folder, Mapping[str, SecretValue]] = field(repr=False)
    problems: tuple[Problem, ...] = ()

    @property
    def digest(self) -> str:
        """16 hex digits over all that the plan makes; values are in it by their versions."""
        made = [
            [sync.id, sync.name, *_folder_of(sync), sync.region, sync.account, repr(sync.config)]
            + [[item.remote_name, item.arn, item.version_id] for item in sync.objects]
            for sync in self.syncs
        ]
        problems = [[problem.sync_id, problem.reason] for problem in self.problems]
        text = json.dumps([self.instance_id, made, problems], separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def environments(self) -> list[tuple[str, str]]:
        """App and name of the environments, in order."""
        return sorted({(sync.app, sync.environment) for sync in self.syncs})


def is_id(text: str) -> bool:
    """Return whether a text has the form of the id of an installation or a sync: 32 hex digits."""
    return _ID.fullmatch(text) is not None


def named(objects: Sequence[FoundObject]) -> str:
    """Return the names of objects with their Regions for a message, the first few."""
    more = len(objects) - _OBJECTS_NAMED
    names = [f"{one.remote_name} in {one.region}" for one in objects[:_OBJECTS_NAMED]]
    return ", ".join(names) + (f" and {more:,} more" if more > 0 else "")


def plan_rebuild(
    instance_id: str,
    found: Iterable[FoundObject],
    said: Mapping[str, Said],
    digests: Digests,
    *,
    check: Callable[[RebuiltSync], SyncConfig],
) -> RebuildPlan:
    """
    Return what the objects of an installation become.

    Args:
        instance_id: of the installation, from the tags.
        found: its objects.
        said: sync id -> what is known of it.
        digests: of the new digest key.
        check: returns the configuration of a sync in its normal form; InvalidInputError if no sync may have it.
    """
    by_sync: dict[str, list[FoundObject]] = defaultdict(list)
    for item in sorted(found, key=_order):
        by_sync[item.sync_id].append(item)
    taken = {name.lower() for one in by_sync if (name := said.get(one, Said()).name) is not None}
    problems: list[Problem] = []
    collected = _Collected()
    for sync_id, objects in sorted(by_sync.items(), key=lambda item: _order(item[1][0])):
        try:
            sync = _shape(sync_id, objects, said.get(sync_id, Said()), taken)
            collected.add(_checked(sync, check))
            taken.add(sync.name.lower())
        except _Unclear as error:
            problems.append(Problem(sync_id=sync_id, reason=error.reason, hint=error.hint, objects=tuple(objects)))
        except InvalidInputError as error:  # Its hint is about options of other commands, as above.
            problems.append(Problem(sync_id=sync_id, reason=error.message, hint=_SAY, objects=tuple(objects)))
    folders = collected.values()
    return RebuildPlan(
        instance_id=instance_id,
        syncs=tuple(
            sorted(
                (_with_journal(sync, folders, collected, digests, instance_id) for sync in collected.syncs),
                key=lambda sync: sync.name.lower(),
            )
        ),
        folders=folders,
        problems=tuple(sorted(problems, key=lambda problem: problem.sync_id)),
    )


def draft_of(sync: RebuiltSync, credential: str, kind: str) -> SyncDraft:
    """Return a sync as the store adds it, with the name of its credential and its destination kind."""
    return SyncDraft(
        name=sync.name,
        app=sync.app,
        environment=sync.environment,
        path=sync.path,
        credential=credential,
        destination_kind=kind,
        region=sync.region,
        config=sync.config,
        account=sync.account,
        adopt=None,
    )


def _checked(sync: RebuiltSync, check: Callable[[RebuiltSync], SyncConfig]) -> RebuiltSync:
    try:
        return replace(sync, config=check(sync))
    except InvalidInputError as error:  # Its hint is about options of other commands.
        raise _Unclear(
            error.message,
            "leave --former-database out, if it says so: names and mapping tell then, and other settings are at their "
            f"defaults; or {_SKIP}",
        ) from None


def _order(item: FoundObject) -> tuple[str, str]:
    return item.remote_name, item.region


class _Unclear(Exception):
    """A sync that cannot be rebuilt as it is: why, and what to do."""

    def __init__(self, reason: str, hint: str = _SAY) -> None:
        super().__init__(reason)
        self.reason = reason
        self.hint = hint


def _shown_id(sync_id: str) -> str:
    if is_id(sync_id):
        return sync_id
    return repr(sync_id if len(sync_id) <= 40 else f"{sync_id[:40]}…")


# --- what no two syncs may share


class _Collected:
    """The syncs so far, and what they have. Names are compared as the store does: regardless of case."""

    def __init__(self) -> None:
        self.syncs: list[RebuiltSync] = []
        self.names: dict[str, RebuiltSync] = {}
        self.writers: dict[tuple[str, str, str], RebuiltSync] = {}
        self._destinations: dict[tuple[str, ...], RebuiltSync] = {}
        self._spelled: dict[tuple[str, ...], RebuiltSync] = {}
        self._folders: dict[Folder, dict[str, list[tuple[RebuiltSync, Shown]]]] = {}

    def add(self, sync: RebuiltSync) -> None:
        """Add a sync. _Unclear if another one has what it has; then nothing of it is added."""
        destination = _destination(sync)
        app, environment = (sync.app.lower(),), (sync.app.lower(), sync.environment.lower())
        if (other := self._destinations.get(destination)) is not None:
            raise _Unclear(f"{_said_of(other)} writes to the same names, or they differ in case only", _SKIP)
        if (other := self._spelled.get(app)) is not None and other.app != sync.app:
            raise _spelled_otherwise("app", sync.app, other.app, other)
        if (other := self._spelled.get(environment)) is not None and other.environment != sync.environment:
            raise _spelled_otherwise("environment", sync.environment, other.environment, other)
        if (other := self.names.get(sync.name.lower())) is not None:
            raise _Unclear(
                f"{_said_of(other)} has the name {other.name} too",
                'say another "name" for one of them in the file of --mapping',
            )
        shown = _shown_of(sync)
        folder = self._folders.get(_folder_of(sync), {})
        differing = [key for key in shown if key in folder and _common([*folder[key], (sync, shown[key])]) is None]
        if differing:
            other = folder[differing[0]][0][0]
            more = len(differing) - _KEYS_NAMED
            keys = ", ".join(differing[:_KEYS_NAMED]) + (f" and {more:,} more" if more > 0 else "")
            raise _Unclear(
                f"{_said_of(other)} has other values of {counted(len(differing), 'key')} of "
                f"{sync.app}/{sync.environment} {sync.path}: {keys}",
                'say another "env" for one of them in the file of --mapping, or skip one there',
            )
        self.syncs.append(sync)
        self.names[sync.name.lower()] = sync
        self._destinations[destination] = sync
        self._spelled |= {app: self._spelled.get(app, sync), environment: self._spelled.get(environment, sync)}
        self.writers |= {(one.account, one.region, one.remote_name.lower()): sync for one in sync.objects}
        folder = self._folders.setdefault(_folder_of(sync), {})
        for key, one in shown.items():
            folder.setdefault(key, []).append((sync, one))

    def values(self) -> dict[Folder, dict[str, SecretValue]]:
        """Return folder -> key -> value as it is stored."""
        return {
            folder: {key: value for key, shown in keys.items() if (value := _common(shown)) is not None}
            for folder, keys in self._folders.items()
        }


def _common(shown: Sequence[tuple[RebuiltSync, Shown]]) -> SecretValue | None:
    return value_of([one for _, one in shown])


def _destination(sync: RebuiltSync) -> tuple[str, ...]:
    """Return what two syncs must not share, as `sync_rows.destination_key` has it."""
    place, names = (sync.account, sync.region), sync.config.names.lower()
    if sync.config.layout is Layout.JSON:
        return (*place, names)
    return (*place, sync.app.lower(), sync.environment.lower(), sync.path, names)


def _said_of(sync: RebuiltSync) -> str:
    return f"the sync {sync.id} ({named(sync.objects)})"


def _spelled_otherwise(kind: str, ours: str, theirs: str, other: RebuiltSync) -> _Unclear:
    return _Unclear(
        f"its {kind} {ours} is {theirs} in {_said_of(other)}, and names that differ in case only are one",
        'say one spelling for both as "env" in the file of --mapping, or skip one there',
    )


def _folder_of(sync: RebuiltSync) -> Folder:
    return sync.app, sync.environment, sync.path


# --- which app, environment, folder and layout


def _shape(sync_id: str, objects: Sequence[FoundObject], said: Said, taken: set[str]) -> RebuiltSync:
    """Return a sync without its journal. _Unclear, InvalidInputError if it is not clear what it was, or not allowed."""
    if not is_id(sync_id):
        raise _Unclear(
            f"its tag {TAG_SYNC} was altered: an id of a sync has 32 hex digits",
            f"correct the tag at AWS, or {_SKIP}",
        )
    here = [one for one in objects if said.region in (None, one.region)]
    places = {(one.account, one.region) for one in here}
    if not places:
        raise _Unclear(f"none of its AWS secrets is in {said.region}", f'correct its "region", or {_SKIP}')
    if len(places) > 1:
        regions = ", ".join(sorted(region for _, region in places))
        raise _Unclear(
            f"it has AWS secrets in several Regions: {regions}",
            f'say its "region" in the file of --mapping, and those elsewhere are left alone; or {_SKIP}',
        )
    layout, names, guess = _layout_of(here, said)
    app, environment = said.app or guess[0], said.environment or guess[1]
    if app is None or environment is None:
        raise _Unclear(
            "its names do not tell the app and the environment", f'say its "env" in the file of --mapping, or {_SKIP}'
        )
    app, environment, path = check_name(app, "app"), check_name(environment, "environment"), said.path or guess[2]
    path = normalise_path(path)
    config = said.config or SyncConfig(
        layout=layout,
        remote_name=names if layout is Layout.JSON else None,
        name_template=names if layout is Layout.PER_KEY else None,
        kms_key=_common_key(here),
    )
    ((account, region),) = places
    wanted = {one.arn: one for one in here if _key_of(config, app, environment, path, one) is not None}
    if not wanted:
        raise _Unclear(
            f"none of its AWS secrets has a name that {names} gives for {app}/{environment} {path}",
            f'correct "names", "env" or "path" in the file of --mapping, or {_SKIP}',
        )
    return RebuiltSync(
        id=sync_id,
        name=check_name(said.name or _free_name(app, environment, path, region, taken), "sync"),
        app=app,
        environment=environment,
        path=path,
        region=region,
        account=account,
        config=config,
        objects=tuple(wanted.values()),
        left_behind=tuple(one for one in objects if one.arn not in wanted),
    )


_Guess = tuple[str | None, str | None, str]


def _layout_of(objects: Sequence[FoundObject], said: Said) -> tuple[Layout, str, _Guess]:
    """Return layout and names, and what they tell of app, environment and path. _Unclear if they do not."""
    if said.config is not None:
        return said.config.layout, said.config.names, (None, None, "/")
    whole, by_key = _guess_whole(objects), _guess_by_key(objects)
    layout = said.layout or _only_layout(objects, whole, by_key)
    if layout is Layout.JSON:
        if said.names is None and len(objects) > 1:
            raise _Unclear(
                "layout json has one AWS secret, and it has several",
                f'say which one as "names" in the file of --mapping, or {_SKIP}',
            )
        return Layout.JSON, said.names or objects[0].remote_name, whole or (None, None, "/")
    if said.names is not None:
        check_template(said.names)
        return Layout.PER_KEY, said.names, by_key or (None, None, "/")
    if by_key is None:
        raise _Unclear(
            "not all of its names have the form APP/ENV/KEY",
            f'say the template of its "names" in the file of --mapping, such as jobs-{{key}}, or {_SKIP}',
        )
    place = (said.app or by_key[0], said.environment or by_key[1], said.path or by_key[2])
    if place != by_key:  # Its names go on as they are.
        return Layout.PER_KEY, f"{objects[0].remote_name.rpartition('/')[0]}/{{key}}", by_key
    return Layout.PER_KEY, _TEMPLATE if by_key[2] == "/" else _TEMPLATE_WITH_PATH, by_key


def _only_layout(objects: Sequence[FoundObject], whole: _Guess | None, by_key: _Guess | None) -> Layout:
    """Return the layout that the objects can have. _Unclear if they can have both, or none."""
    if whole is not None and by_key is not None:
        raise _Unclear(
            "its name and its value fit both layouts: one AWS secret with all keys (json), or one for each (per-key)",
            f'say its "layout" in the file of --mapping, and its "env" if it is json; or {_SKIP}',
        )
    if whole is not None:
        return Layout.JSON
    if by_key is not None:
        return Layout.PER_KEY
    if len(objects) > 1:
        raise _Unclear(
            "it has several AWS secrets, and not all of their names have the form APP/ENV/KEY with one APP/ENV",
            f'say its "env", "layout" and "names" in the file of --mapping, or {_SKIP}',
        )
    try:
        members_of(objects[0].value)
    except InvalidInputError as error:
        raise _Unclear(
            "its name has not the form APP/ENV/KEY of layout per-key, and its value cannot be one of layout json: "
            f"{error.message}",
            f'correct the value at AWS; or, if it was the value of one key, say its "env", "layout": "per-key" and the '
            f'template of its "names" in the file of --mapping; or {_SKIP}',
        ) from None
    raise AssertionError("a value of layout json is one that tells the layout")


def _guess_whole(objects: Sequence[FoundObject]) -> _Guess | None:
    """Return what the name of an object with all keys tells; None if it is no such object."""
    if len(objects) != 1 or not _is_document(objects[0].value):
        return None
    app, _, rest = objects[0].remote_name.partition("/")
    environment, _, path = rest.partition("/")
    return (app, environment, f"/{path}") if is_name(app) and is_name(environment) else (None, None, "/")


def _guess_by_key(objects: Sequence[FoundObject]) -> _Guess | None:
    """Return what the names of objects with a key each tell, if all have the usual form."""
    matches = [_USUAL.fullmatch(one.remote_name) for one in objects]
    heads = {match.group(1, 2, 3) if match else None for match in matches}
    head = heads.pop() if len(heads) == 1 else None
    if head is None or not (is_name(head[0]) and is_name(head[1])):
        return None
    return head[0], head[1], f"/{head[2] or ''}"


def _is_document(value: SecretValue) -> bool:
    try:
        members_of(value)
    except InvalidInputError:
        return False
    return True


def _common_key(objects: Sequence[FoundObject]) -> str | None:
    """Return the KMS key of all objects, so that new ones get it too; None if they differ, or if it is AWS's own."""
    keys = {one.kms_key for one in objects}
    key = keys.pop() if len(keys) == 1 else None
    return key if key is not None and is_key_arn(key) else None


def _free_name(app: str, environment: str, path: str, region: str, taken: set[str]) -> str:
    words = "-".join((app, environment, *filter(None, re.sub(r"[^A-Za-z0-9_-]", "-", path).split("-"))))
    candidates = chain((words, f"{words}-{region}"), (f"{words}-{number}" for number in range(2, len(taken) + 3)))
    return next(name for name in (one[-64:].lstrip("-_") for one in candidates) if name.lower() not in taken)


# --- values


def _key_of(config: SyncConfig, app: str, environment: str, path: str, item: FoundObject) -> str | None:
    """Return the key of an object in layout per-key, "" for the object of layout json; None if the sync has neither."""
    if config.layout is Layout.JSON:
        return "" if item.remote_name == config.names else None
    place = {"app": app, "environment": environment, "path": path}
    if beginning_of_names(config.names, **place):
        return key_of_name(config.names, item.remote_name, **place)
    # A template that begins with the key tells of no foreign object, but these are known to be ours.
    return key_of_name("." + config.names, "." + item.remote_name, **place)


def _shown_of(sync: RebuiltSync) -> dict[str, Shown]:
    """Return key -> what is at AWS of it. _Unclear if there is a value or a key that phasesync cannot have written."""
    try:
        if sync.config.layout is Layout.JSON:
            (item,) = sync.objects
            shown = members_of(item.value)
        else:
            shown = {_key_in(sync, item): Shown(layout=Layout.PER_KEY, value=item.value) for item in sync.objects}
        for key in shown:
            check_key(key)
    except InvalidInputError as error:
        raise _Unclear(
            error.message, f'correct it at AWS; or say its "layout" and "names" in the file of --mapping; or {_SKIP}'
        ) from None
    return shown


def _key_in(sync: RebuiltSync, item: FoundObject) -> str:
    return _key_of(sync.config, sync.app, sync.environment, sync.path, item) or ""


# --- the journal


def _with_journal(
    sync: RebuiltSync,
    folders: Mapping[Folder, Mapping[str, SecretValue]],
    collected: _Collected,
    digests: Digests,
    instance_id: str,
) -> RebuiltSync:
    """Return a sync with its journal, and with what its first run writes or cannot write."""
    resolved = {key: literal_value(value) or value for key, value in folders[_folder_of(sync)].items()}
    built = build_payloads(sync, resolved, digests)
    unwritable = {name: error.message for name, error in built.problems.items()}
    for name in built.payloads:
        owner = collected.writers.get((sync.account, sync.region, name.lower()), sync)
        if owner.id != sync.id:
            unwritable[name] = f"it belongs to the sync {owner.name}"
    entries = tuple(
        _entry(sync, item, built.payloads.get(item.remote_name), digests, instance_id) for item in sync.objects
    )
    settled = {entry.remote_name: entry.fingerprint for entry in entries}
    writes = tuple(
        name
        for name, payload in sorted(built.payloads.items())
        if name not in unwritable and settled.get(name) != payload.fingerprint
    )
    return replace(sync, entries=entries, writes=writes, unwritable=dict(sorted(unwritable.items())))


def _entry(
    sync: RebuiltSync, item: FoundObject, payload: Payload | None, digests: Digests, instance_id: str
) -> JournalEntry:
    there = fingerprint(digests, item.value)
    same = payload is not None and payload.fingerprint == there
    return JournalEntry(
        id=None,
        sync_id=sync.id,
        remote_name=item.remote_name,
        account=item.account,
        region=item.region,
        arn=item.arn,
        version_id=item.version_id,
        generation=1,
        fingerprint=there,
        keys=payload.keys if payload is not None and same else {},
        binary=item.value.type is ValueType.BINARY,
        empty=tuple(sorted(payload.empty)) if payload is not None and same else None,
        tags_written=owner_tags(instance_id, sync.id),
    )
