"""
What the objects at AWS tell of an installation whose root key was lost: its syncs, environments and values. Pure.

The tags say which objects belong together. They do not say which app, environment and folder that was, nor in which
layout; names tell it where they have the usual form, and otherwise an operator says it (`Said`).
"""

import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from phasesync.core.counted import counted
from phasesync.core.fingerprint import Digests, fingerprint
from phasesync.core.model import SecretValue, ValueType
from phasesync.core.names import check_key, is_name
from phasesync.core.payloads import build_json_payload, build_payload
from phasesync.core.planning.ownership import owner_tags
from phasesync.core.remote import JournalEntry, Payload
from phasesync.core.remote_names import beginning_of_names, check_template, key_of_name, name_of_key
from phasesync.core.secret_json import as_literal, literal_value, split_json
from phasesync.core.sync import Layout, SyncConfig
from phasesync.errors import InvalidInputError

_TEMPLATE: Final = "{app}/{env}/{key}"
_TEMPLATE_WITH_PATH: Final = "{app}/{env}/{path}/{key}"
_USUAL: Final = re.compile(r"([^/]+)/([^/]+)(?:/(.+))?/([^/]+)")


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
        names: the remote name, or the template of names.
        config: all settings, from the former database.
    """

    name: str | None = None
    app: str | None = None
    environment: str | None = None
    path: str | None = None
    layout: Layout | None = None
    names: str | None = None
    config: SyncConfig | None = None


@dataclass(frozen=True, kw_only=True)
class RebuiltSync:
    """
    One sync as it will be.

    Attributes:
        objects: what is at AWS and belongs to it, by name.
        left_behind: names of objects with its tags that it does not want now, as after a rename.
        entries: the journal that makes them ours.
        writes: names of objects that its first run writes: what the store has then differs from what is there.
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
    left_behind: tuple[str, ...] = ()
    entries: tuple[JournalEntry, ...] = ()
    writes: tuple[str, ...] = ()


Folder = tuple[str, str, str]
"""App, environment and path."""


@dataclass(frozen=True, kw_only=True)
class RebuildPlan:
    """
    What a rebuild makes.

    Attributes:
        syncs: by name.
        folders: folder -> key -> value as it is stored.
        problems: sync id -> why it cannot be rebuilt as it is.
    """

    instance_id: str
    syncs: tuple[RebuiltSync, ...]
    folders: Mapping[Folder, Mapping[str, SecretValue]] = field(repr=False)
    problems: Mapping[str, str] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """16 hex digits over all that the plan makes; values are in it by their versions."""
        made = [
            [sync.id, sync.name, *_folder_of(sync), sync.region, sync.account, repr(sync.config)]
            + [[item.remote_name, item.arn, item.version_id] for item in sync.objects]
            for sync in self.syncs
        ]
        text = json.dumps([self.instance_id, made, sorted(self.problems.items())], separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def environments(self) -> list[tuple[str, str]]:
        """App and name of the environments, in order."""
        return sorted({(sync.app, sync.environment) for sync in self.syncs})


def plan_rebuild(
    instance_id: str, found: Iterable[FoundObject], said: Mapping[str, Said], digests: Digests
) -> RebuildPlan:
    """
    Return what the objects of an installation become.

    Args:
        instance_id: of the installation, from the tags.
        found: its objects.
        said: sync id -> what is known of it.
        digests: of the new digest key.
    """
    by_sync: dict[str, list[FoundObject]] = defaultdict(list)
    for item in found:
        by_sync[item.sync_id].append(item)
    problems: dict[str, str] = {}
    syncs: list[RebuiltSync] = []
    folders: dict[Folder, dict[str, SecretValue]] = {}
    names: set[str] = set()
    for sync_id, objects in sorted(by_sync.items(), key=lambda item: min(one.remote_name for one in item[1])):
        try:
            sync = _shape(sync_id, sorted(objects, key=lambda one: one.remote_name), said.get(sync_id, Said()), names)
            values = _values_of(sync)
            _merge(folders.setdefault((sync.app, sync.environment, sync.path), {}), values, sync)
        except InvalidInputError as error:
            problems[sync_id] = error.message
            continue
        names.add(sync.name.lower())
        syncs.append(sync)
    return RebuildPlan(
        instance_id=instance_id,
        syncs=tuple(
            sorted(
                (_with_journal(sync, folders, digests, instance_id) for sync in syncs),
                key=lambda sync: sync.name.lower(),
            )
        ),
        folders={folder: values for folder, values in folders.items() if folder in {_folder_of(one) for one in syncs}},
        problems=problems,
    )


def _folder_of(sync: RebuiltSync) -> Folder:
    return sync.app, sync.environment, sync.path


# --- which app, environment, folder and layout


def _shape(sync_id: str, objects: Sequence[FoundObject], said: Said, taken: set[str]) -> RebuiltSync:
    """Return a sync without its journal. InvalidInputError if it is not clear what it was."""
    places = {(one.account, one.region) for one in objects}
    if len(places) > 1:
        regions = ", ".join(sorted(region for _, region in places))
        raise InvalidInputError(f"its objects are in several places ({regions}): give one with --region")
    layout, names, guess = _layout_of(objects, said)
    app, environment = said.app or guess[0], said.environment or guess[1]
    path = said.path or guess[2]
    if app is None or environment is None:
        raise InvalidInputError("its names do not tell the app and the environment")
    kms_key = _common_key(objects)
    config = said.config or SyncConfig(
        layout=layout,
        remote_name=names if layout is Layout.JSON else None,
        name_template=names if layout is Layout.PER_KEY else None,
        kms_key=kms_key,
    )
    ((account, region),) = places
    wanted = [one for one in objects if _key_of(config, app, environment, path, one) is not None]
    if not wanted:
        raise InvalidInputError(f"none of its objects has a name that {names} gives")
    return RebuiltSync(
        id=sync_id,
        name=said.name or _free_name(app, environment, path, region, taken),
        app=app,
        environment=environment,
        path=path,
        region=region,
        account=account,
        config=config,
        objects=tuple(wanted),
        left_behind=tuple(one.remote_name for one in objects if one not in wanted),
    )


_Guess = tuple[str | None, str | None, str]


def _layout_of(objects: Sequence[FoundObject], said: Said) -> tuple[Layout, str, _Guess]:
    """Return layout and names, and what they tell of app, environment and path. InvalidInputError if they do not."""
    if said.config is not None:
        return said.config.layout, said.config.names, (None, None, "/")
    whole, by_key = _guess_whole(objects), _guess_by_key(objects)
    layout = said.layout or _only_layout(whole, by_key)
    if layout is Layout.JSON:
        if said.names is None and len(objects) > 1:
            raise InvalidInputError("layout json has one object, and it has several: say which with names")
        return Layout.JSON, said.names or objects[0].remote_name, whole or (None, None, "/")
    if layout is Layout.PER_KEY:
        if said.names is not None:
            check_template(said.names)
            return Layout.PER_KEY, said.names, by_key or (None, None, "/")
        if by_key is None:
            raise InvalidInputError("its names do not have the form APP/ENV/KEY")
        return Layout.PER_KEY, _TEMPLATE if by_key[2] == "/" else _TEMPLATE_WITH_PATH, by_key
    raise InvalidInputError("its names do not tell whether one object has all keys (json) or one each (per-key)")


def _only_layout(whole: _Guess | None, by_key: _Guess | None) -> Layout | None:
    """Return the layout that the objects can have; None if they can have both, or none."""
    if whole is not None and by_key is not None:
        return None
    return Layout.JSON if whole is not None else Layout.PER_KEY if by_key is not None else None


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
        split_json(value)
    except InvalidInputError:
        return False
    return value.type is not ValueType.BINARY


def _common_key(objects: Sequence[FoundObject]) -> str | None:
    """Return the KMS key of all objects, so that new ones get it too; None if they differ, or if it is AWS's own."""
    keys = {one.kms_key for one in objects}
    key = keys.pop() if len(keys) == 1 else None
    return key if key is not None and key.startswith("arn:") else None


def _free_name(app: str, environment: str, path: str, region: str, taken: set[str]) -> str:
    words = "-".join((app, environment, *filter(None, re.sub(r"[^A-Za-z0-9_-]", "-", path).split("-"))))
    candidates = [words, f"{words}-{region}", *(f"{words}-{number}" for number in range(2, len(taken) + 3))]
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


def _values_of(sync: RebuiltSync) -> dict[str, SecretValue]:
    """Return key -> value as it is stored, of what a sync has at AWS. InvalidInputError; it repeats no value."""
    if sync.config.layout is Layout.JSON:
        (item,) = sync.objects
        return {check_key(key): value for key, value in split_json(item.value).items()}
    values = {}
    for item in sync.objects:
        key = _key_of(sync.config, sync.app, sync.environment, sync.path, item)
        values[check_key(key or "")] = as_literal(item.value)
    return values


def _merge(folder: dict[str, SecretValue], values: Mapping[str, SecretValue], sync: RebuiltSync) -> None:
    """Add the values of a sync to its folder. InvalidInputError if another sync has another value there."""
    differing = [key for key, value in values.items() if key in folder and folder[key] != value]
    if differing:
        raise InvalidInputError(
            f"another sync of {sync.app}/{sync.environment} {sync.path} has other values of "
            f"{counted(len(differing), 'key')}: say another environment for one of them, or skip one"
        )
    folder.update(values)


# --- the journal


def _with_journal(
    sync: RebuiltSync, folders: Mapping[Folder, Mapping[str, SecretValue]], digests: Digests, instance_id: str
) -> RebuiltSync:
    """Return a sync with its journal, and with what its first run writes."""
    resolved = {key: literal_value(value) or value for key, value in folders[_folder_of(sync)].items()}
    wanted: dict[str, Payload] = {}
    if sync.config.layout is Layout.JSON:
        wanted[sync.config.names] = build_json_payload(sync.config.names, resolved, digests)
    else:
        for key, value in resolved.items():
            place = {"app": sync.app, "environment": sync.environment, "path": sync.path}
            name = name_of_key(sync.config, **place, key=key)
            wanted[name] = build_payload(name, key, value, digests)
    entries = tuple(_entry(sync, item, wanted.get(item.remote_name), digests, instance_id) for item in sync.objects)
    settled = {entry.remote_name: entry.fingerprint for entry in entries}
    writes = tuple(sorted(name for name, payload in wanted.items() if settled.get(name) != payload.fingerprint))
    return replace(sync, entries=entries, writes=writes)


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
