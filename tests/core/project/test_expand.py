"""What a project wants: names filled in, defaults taken, references noted."""

from __future__ import annotations

from datetime import timedelta

import pytest

from phasesync.core.project.desired import DesiredCredential, DesiredDynamic, DesiredEnvironment, DesiredSync
from phasesync.core.project.expand import check_references
from phasesync.core.project.kinds import KINDS
from phasesync.core.project.ownership import Manage
from phasesync.core.sync import Adopt, Layout, SyncConfig
from phasesync.errors import DocumentError
from tests.support.reading import read_text
from tests.support.wrong_documents import HEAD, WORLD


def syncs_of(text: str) -> list[DesiredSync]:
    """The syncs of the only project of a text."""
    (project,) = read_text(text)
    return [sync for sync in project.objects["sync"] if isinstance(sync, DesiredSync)]


def test_a_sync_that_says_nothing_more_is_a_new_sync() -> None:
    (sync,) = syncs_of(WORLD + "syncs: [{name: web, env: shop/production, credential: aws, secret_name: web}]\n")

    assert sync.config == SyncConfig(remote_name="web")
    assert (sync.path, sync.destination, sync.region, sync.adopt) == ("/", "aws-secrets-manager", None, None)
    assert str(sync.place) == "<stdin>:7:9"
    assert [(reference.kind, reference.name) for reference in sync.references] == [
        ("environment", "shop/production"),
        ("credential", "aws"),
    ]


def test_for_makes_one_sync_for_each_environment() -> None:
    text = WORLD.replace("name: aws,", "name: aws-production, ").replace(
        "}]", "}, {name: aws-staging, type: ambient, region: eu-west-1}]"
    )
    text += "syncs: [{name: '{app}-{env}', for: [production, shop/staging], credential: 'aws-{env}', path: '/{app}',"
    text += " name_template: '{app}/{env}/{key}'}]\n"

    production, staging = syncs_of(text)

    assert (production.name, production.environment_label) == ("shop-production", "shop/production")
    assert (staging.name, staging.credential, staging.path) == ("shop-staging", "aws-staging", "/shop")
    assert staging.config == SyncConfig(layout=Layout.PER_KEY, name_template="{app}/{env}/{key}")


def test_names_are_compared_without_regard_to_case_and_written_as_in_their_sections() -> None:
    (sync,) = syncs_of(
        WORLD + "syncs: [{name: '{env}', env: SHOP/Production, credential: AWS, secret_name: '{app}'}]\n"
    )

    assert (sync.app, sync.environment, sync.name, sync.config.remote_name) == (
        "shop",
        "production",
        "production",
        "shop",
    )


def test_a_sync_takes_the_defaults_of_its_project_unless_it_says_otherwise() -> None:
    text = (
        WORLD
        + "defaults: {syncs: {credential: aws, name: '{env}', secret_name: '{env}', grace: 2h,"
        + " tags: {a: b}, adopt: overwrite}}\n"
    )
    text += "syncs: [{env: production}, {env: staging, grace: 3h, tags: null, name_template: '{key}', adopt: null}]\n"

    production, staging = syncs_of(text)

    assert production.config == SyncConfig(remote_name="production", grace=timedelta(hours=2), tags={"a": "b"})
    assert production.adopt is Adopt.OVERWRITE and staging.adopt is None
    assert staging.config == SyncConfig(layout=Layout.PER_KEY, name_template="{key}", grace=timedelta(hours=3))


def test_the_app_is_that_of_the_sync_of_the_defaults_or_the_only_one() -> None:
    two = WORLD.replace("[shop]", "[shop, blog]").replace("[shop/production", "[blog/production, shop/production")
    more = "credential: aws, secret_name: x"

    assert syncs_of(WORLD + f"syncs: [{{name: a, env: staging, {more}}}]\n")[0].app == "shop"
    assert syncs_of(two + f"syncs: [{{name: a, env: production, app: blog, {more}}}]\n")[0].app == "blog"
    assert syncs_of(two + f"defaults: {{app: blog}}\nsyncs: [{{name: a, env: production, {more}}}]\n")[0].app == "blog"


def test_documents_of_one_name_are_one_project() -> None:
    text = WORLD + "---\n" + HEAD.replace("shop", "Shop") + "defaults: {syncs: {credential: aws}}\n---\n" + HEAD
    text += "syncs: [{name: a, env: staging, secret_name: x}]\n"

    (project,) = read_text(text)

    assert (project.name, project.manage, len(project.documents)) == ("shop", Manage.TRACK, 3)
    assert [kind.kind for kind in KINDS] == list(project.objects)
    assert [type(wanted).kind for wanted in project] == ["app", "environment", "environment", "credential", "sync"]


def test_environments_and_credentials_say_what_they_say() -> None:
    text = (
        HEAD
        + "manage: strict\napps: [shop]\nenvironments: [{name: shop/a, folders: [/db/, /a, /],"
        + " keys: [A, /db/B], approvers: 2}]\n"
    )
    text += "credentials: [{name: a, type: assume-role, region: eu-west-1, external_id: none, account: '012345678901'},"
    text += " {name: b, type: access-key, region: eu-west-1, access_key_id: AKIAIOSFODNN7EXAMPLE,"
    text += " secret_access_key: {file: k}}]\n"

    (project,) = read_text(text)

    (environment,) = project.objects["environment"]
    first, second = project.objects["credential"]
    assert isinstance(environment, DesiredEnvironment)
    assert isinstance(first, DesiredCredential) and isinstance(second, DesiredCredential)
    assert environment.folders == ("/a", "/db") and environment.approvers == 2
    assert environment.keys == (("/", "A"), ("/db", "B"))
    assert first.no_external_id and first.external_id is None and first.account == "012345678901"
    assert second.secret is not None and second.secret.file == "k"
    assert "AKIA" not in repr(second)


def test_a_dynamic_secret_has_the_defaults_of_a_new_one() -> None:
    (project,) = read_text(
        WORLD + "dynamic: [{name: ci, env: staging, credential: aws, default_ttl: 1h, max_ttl: 8h}]\n"
    )

    (dynamic,) = project.objects["dynamic"]
    assert isinstance(dynamic, DesiredDynamic)
    assert (dynamic.issuer, dynamic.path, dynamic.config.user_template) == ("aws-iam-user", "/", "{{name}}-{{random}}")
    assert dynamic.config.max_leases == 50 and dynamic.config.keys == {}


def test_what_exists_in_the_store_may_be_referred_to() -> None:
    (project,) = read_text(HEAD + "syncs: [{name: a, env: Shop/live, credential: AWS, secret_name: x}]\n")

    check_references([project], existing={"environment": ["shop/LIVE"], "credential": ["aws"]})
    with pytest.raises(DocumentError) as caught:
        check_references([project], existing={"environment": ["shop/lives"]})

    assert caught.value.problems == (
        "<stdin>:4:24: there is no environment Shop/live; did you mean shop/lives?",
        "<stdin>:4:47: there is no credential AWS; add it under credentials:",
    )


def test_a_document_without_objects_is_an_empty_project() -> None:
    (project,) = read_text(HEAD + "syncs: []\n")

    assert project.empty and str(project.place) == "<stdin>:3:7"
