"""Settings and actor of a command line."""

from __future__ import annotations

import subprocess
import sys

import pytest


def test_a_settings_error_ends_with_6_before_anything_is_opened(shop, monkeypatch):
    monkeypatch.setenv("PHASESYNC_DAEMON__WORKERS", "canary")
    refused = shop("apps", "list")
    assert refused.exit_code == 6
    assert "daemon.workers" in refused.stderr
    assert "canary" not in refused.output


def test_a_warning_is_printed_once_and_not_on_stdout(shop, monkeypatch):
    monkeypatch.setenv("PHASESYNC_PORT", "tcp://10.0.0.1:8787")
    assert shop.items("apps", "list") != []
    assert shop("apps", "list").stderr.count("PHASESYNC_PORT") == 1


def test_the_settings_file_is_named_by_the_option(shop):
    config = shop.directory / "c.toml"
    config.write_text("[daemon]\nworker = 1\n")
    config.chmod(0o600)
    refused = shop("--config", str(config), "apps", "list")
    assert refused.exit_code == 6
    assert "did you mean daemon.workers?" in refused.stderr


def test_another_root_key_is_refused(shop):
    from phasesync.adapters.root_keys import write_new_root_key

    (shop.directory / "root.key").rename(shop.directory / "former.key")
    write_new_root_key(shop.directory / "root.key")
    assert shop("secrets", "list", "shop/prod").exit_code == 6


def test_a_root_key_from_the_environment_works_with_a_warning_that_does_not_show_it(shop, monkeypatch):
    key = (shop.directory / "root.key").read_text().strip()
    monkeypatch.delenv("PHASESYNC_ROOT_KEY_FILE")
    monkeypatch.setenv("PHASESYNC_ROOT_KEY", key)
    done = shop.done("apps", "list")
    assert "warning: the root key comes from an environment variable" in done.stderr
    assert key not in done.output


def changed_by(shop):
    return shop.items("secrets", "history", "shop/prod", "K")[0]["changed_by"]


def test_the_actor_is_the_user_and_whoever_the_user_claims_to_act_for(shop, monkeypatch):
    monkeypatch.setenv("LOGNAME", "forged")
    monkeypatch.setenv("USER", "forged")
    shop.done("secrets", "generate", "shop/prod", "K")
    user = changed_by(shop)
    assert user != "forged"
    monkeypatch.setenv("PHASESYNC_ACTOR", "pipeline 7")
    shop.done("secrets", "generate", "shop/prod", "K")
    assert changed_by(shop) == f"{user} as pipeline 7"


@pytest.mark.parametrize("actor", ["a\nb", "x" * 65])
def test_an_actor_that_does_not_fit_a_log_line_is_refused(shop, actor):
    assert shop("--actor", actor, "secrets", "generate", "shop/prod", "K").exit_code == 2


HEAVY = {"boto3", "botocore", "alembic", "apscheduler", "moto", "psycopg", "rich", "structlog"}
HEAVY |= {"prometheus_client", "opentelemetry"}
HEAVY |= {"greenlet", "sqlalchemy.orm", "sqlalchemy.ext.asyncio", "sqlalchemy.dialects.postgresql"}
OTHERS = {"engine", "adapters.aws", "core.events", "core.planning", "store.backup", "store.migration_0003"}
"""Our own modules and packages that a list does not need; asyncio is missing since SQLAlchemy needs it."""
NOUNS = {"core.change", "core.credential", "core.dynamic", "core.lease", "core.remote", "core.run", "core.sync"}


@pytest.mark.parametrize(
    ("args", "others"),
    [
        (["apps", "list"], OTHERS | NOUNS | {"store.secrets"}),
        (["envs", "list"], OTHERS | NOUNS | {"store.secrets"}),
        (["secrets", "list", "shop/prod", "-o", "json"], OTHERS | NOUNS),
        (["syncs", "list"], OTHERS - {"core.planning"}),
        (["runs", "list"], OTHERS - {"core.planning"}),
    ],
)
def test_lists_import_nothing_that_they_do_not_need(shop, args, others):
    code = (
        "import sys\nfrom phasesync.cli.main import main\n"
        f"sys.argv[1:] = {args!r}\n"
        "try:\n    main()\nfinally:\n    print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    imported = set(done.stderr.split())
    assert "phasesync.store.apps" in imported
    assert sorted(HEAVY & imported) == []
    assert sorted({f"phasesync.{name}" for name in others} & imported) == []


def test_the_collector_ignores_what_was_imported_and_works_for_the_rest(shop):
    code = (
        "import gc, sys\nfrom phasesync.__main__ import main\n"
        "sys.argv[1:] = ['apps', 'list']\n"
        "try:\n    main()\nfinally:\n    print(gc.isenabled(), gc.get_freeze_count() > len(gc.get_objects()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "True True"
