"""The settings of a document are those of the configurations, and a configuration is written as it is read."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as run_with

from phasesync.adapters.project_files.write import write_json, write_yaml
from phasesync.core.dynamic import DynamicConfig
from phasesync.core.lease_users import DEFAULT_TEMPLATE
from phasesync.core.project import settings
from phasesync.core.project.desired import DesiredDynamic, DesiredProject, DesiredSync
from phasesync.core.project.models import DynamicItem, SyncDefaults, SyncItem
from phasesync.core.sync import SyncConfig
from tests.support.projects import Document, as_yaml, in_parts, projects
from tests.support.reading import read_text

few = run_with(
    max_examples=25,
    derandomize=True,
    deadline=None,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@pytest.mark.parametrize(
    ("config", "table", "models"),
    [(SyncConfig, settings.SYNC, (SyncItem, SyncDefaults)), (DynamicConfig, settings.DYNAMIC, (DynamicItem,))],
)
def test_every_field_of_a_configuration_is_a_field_of_the_document(
    config: type, table: dict[str, settings.Setting], models: tuple[Any, ...]
) -> None:
    assert set(table) == {field.name for field in fields(config)}
    for model in models:
        assert {settings.word_of(name, table) for name in table} <= set(model.model_fields)


def written(project: DesiredProject) -> Document:
    """A document of the same project, with every object on its own and nothing left to defaults."""
    syncs = [each for each in project if isinstance(each, DesiredSync)]
    dynamics = [each for each in project if isinstance(each, DesiredDynamic)]
    return {
        "apiVersion": "phasesync/v1",
        "kind": "Project",
        "name": project.name,
        "syncs": [
            {"name": sync.name, "env": sync.environment_label, "credential": sync.credential, "path": sync.path}
            | ({"region": sync.region} if sync.region else {})
            | ({"adopt": str(sync.adopt)} if sync.adopt else {})
            | settings.written(sync.config, settings.SYNC, SyncConfig())
            for sync in syncs
        ],
        "dynamic": [
            {
                "name": dynamic.name,
                "env": dynamic.environment_label,
                "credential": dynamic.credential,
                "path": dynamic.path,
                "issuer": dynamic.issuer,
            }
            | settings.written(dynamic.config, settings.DYNAMIC, _NOTHING)
            for dynamic in dynamics
        ],
    }


class _Nothing:
    """Equal to no configuration in any field but those that are empty."""

    user_template = DEFAULT_TEMPLATE
    iam_path = permission_boundary = inline_policy = role_arn = session_policy = default_ttl = max_ttl = None
    policy_arns = groups = ()
    max_leases = 50
    tags: dict[str, str] = {}  # noqa: RUF012
    keys: dict[str, str] = {}  # noqa: RUF012


_NOTHING = _Nothing()


@few
@given(projects())
def test_what_is_written_is_read_as_it_was(document: Document) -> None:
    (project,) = read_text(as_yaml(document))

    (again,) = read_text(json.dumps(written(project)).encode())

    for kind in ("sync", "dynamic"):
        assert again.objects[kind] == project.objects[kind]


@few
@given(projects())
def test_block_yaml_json_and_several_documents_are_the_same_project(document: Document) -> None:
    (project,) = read_text(as_yaml(document))

    assert read_text(json.dumps(document).encode()) == (project,)
    assert read_text(write_yaml(in_parts(document))) == (project,)
    assert read_text(write_json(in_parts(document))) == (project,)
