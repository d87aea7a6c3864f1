"""The first steps: a store with secrets, two credentials, two syncs, daemons."""

from dataclasses import replace
from datetime import timedelta

from phasesync.core.credential import CredentialDraft, CredentialType
from phasesync.core.daemons import DaemonRole
from phasesync.core.iam.role_setup import trust_policy
from phasesync.core.iam.sync_policy import starter_sync_policy
from phasesync.core.model import SecretValue
from phasesync.core.sync import SyncConfig
from phasesync.core.sync_state import SyncDraft
from phasesync.demo.isolation import REGION
from phasesync.demo.stage import APP, PRODUCTION, SECRET_NAMES, STAGING, Stage

ENVIRONMENTS = ("development", "staging", "production")
INTERVAL = timedelta(seconds=1)
"""Between drift checks. The default is 5 min; the tour does not want to wait that long."""


def fill_the_store(stage: Stage) -> None:
    """Step: an app with three environments."""
    screen, application = stage.screen, stage.application
    screen.step(
        "One encrypted store is the source of truth",
        "Everything is encrypted under a root key that lies outside the data directory.",
    )
    screen.command("phasesync init")
    screen.command("phasesync daemon", "started beside this process")
    screen.command(f"phasesync apps add {APP}")
    application.store.apps.add_app(APP)
    for name in ENVIRONMENTS:
        application.store.apps.add_environment(APP, name)
        screen.command(f"phasesync envs add {APP}/{name}")
    values = {
        "development": {"API_URL": "https://api.localhost.example"},
        "staging": {"DB_PASSWORD": "staging-Rz8w", "UPSTREAM": "${production.API_URL}/mirror"},
        "production": {"API_URL": "https://api.shop.example/v1", "DB_PASSWORD": "production-7Kq2", "LOG_LEVEL": "info"},
    }
    for environment, secrets in values.items():
        stage.set(environment, **secrets)
    listed = application.store.apps.list_environments(APP)
    screen.claim(
        "each environment has its keys at revision 1",
        all(one.revision == 1 and one.keys for one in listed) and len(listed) == 3,
    )


def add_credentials(stage: Stage) -> None:
    """Step: a role with an External ID in one account, access keys of another."""
    screen, operations = stage.screen, stage.application.credential_operations
    screen.step(
        "Two ways into AWS",
        "A role in another account, which only we can assume because only we know its External ID; and access keys.",
    )
    policy = starter_sync_policy(region=REGION)

    screen.command(f"phasesync credentials add role --type assume-role --region {REGION}")
    draft = CredentialDraft(type=CredentialType.ASSUME_ROLE, region=REGION)
    role = operations.add("role", draft, generate_external_id=True)
    host = stage.application.context.tester.principal(role).arn
    arn = stage.accounts[PRODUCTION].make_role(
        "phasesync-role", trust=trust_policy(principal_arn=host, external_id=role.external_id), policy=policy
    )
    screen.say("It makes the External ID and prints the aws iam commands for policy and role; here they were run.")
    screen.command(f"phasesync credentials update role --role-arn {arn}")
    operations.update("role", replace(draft, role_arn=arn, external_id=role.external_id), account=None)
    screen.command("phasesync credentials test role")
    report = operations.test("role")
    screen.claim(
        "the role is assumed with its External ID and refused without",
        report.identity.account == stage.accounts[PRODUCTION].number and report.open_without_external_id is False,
        f"account {report.identity.account}",
    )

    key_id, secret = stage.accounts[STAGING].make_user("phasesync", policy=policy)
    screen.command(
        f"phasesync credentials add keys --type access-key --access-key-id {key_id} --region {REGION}",
        "the secret key is typed at the prompt",
    )
    draft = CredentialDraft(
        type=CredentialType.ACCESS_KEY, region=REGION, access_key_id=key_id, secret_access_key=SecretValue(secret)
    )
    operations.add("keys", draft, generate_external_id=False)
    screen.command("phasesync credentials test keys")
    report = operations.test("keys")
    screen.claim(
        "the access keys work",
        report.identity.account == stage.accounts[STAGING].number,
        f"account {report.identity.account}",
    )


def add_syncs(stage: Stage) -> None:
    """Step: two syncs, which the daemon carries out."""
    screen = stage.screen
    screen.step(
        "Two syncs",
        "A sync takes one environment to one AWS secret; the daemon does it at once. shop/development has none: it "
        "stays here.",
    )
    kms_key = stage.accounts[PRODUCTION].make_kms_key()
    screen.command(
        f"phasesync syncs add {PRODUCTION} --env {APP}/production --credential role "
        f"--secret-name {SECRET_NAMES[PRODUCTION]} --kms-key {kms_key} --interval 1s"
    )
    _add(stage, PRODUCTION, environment="production", credential="role", kms_key=kms_key)
    screen.command(
        f"phasesync syncs add {STAGING} --env {APP}/staging --credential keys "
        f"--secret-name {SECRET_NAMES[STAGING]} --interval 1s"
    )
    _add(stage, STAGING, environment="staging", credential="keys", kms_key=None)
    stage.until("the daemon works", lambda: stage.daemon(DaemonRole.ACTIVE))
    stage.until_at_aws(PRODUCTION, API_URL="https://api.shop.example/v1", LOG_LEVEL="info")
    stage.until_at_aws(STAGING, UPSTREAM="https://api.shop.example/v1/mirror")
    stage.until_in_sync(PRODUCTION, STAGING)
    stage.show(PRODUCTION)
    stage.show(STAGING)
    screen.claim(
        "each account has its one secret, in one version",
        all(
            stage.versions(sync) == 1 and stage.accounts[sync].names() == [SECRET_NAMES[sync]] for sync in SECRET_NAMES
        ),
    )
    screen.claim(
        f"{SECRET_NAMES[PRODUCTION]} is encrypted with the customer-managed key",
        stage.accounts[PRODUCTION].kms_key_of(SECRET_NAMES[PRODUCTION]) == kms_key,
    )
    screen.claim(
        "the reference ${production.API_URL} in staging is resolved",
        stage.at_aws(STAGING).keys["UPSTREAM"] == "https://api.shop.example/v1/mirror",
    )
    screen.command("phasesync daemon", "a second one beside the first: it stands by")
    stage.daemons[1].start()


def _add(stage: Stage, name: str, *, environment: str, credential: str, kms_key: str | None) -> None:
    config = SyncConfig(remote_name=SECRET_NAMES[name], kms_key=kms_key, interval=INTERVAL)
    draft = SyncDraft(
        name=name,
        app=APP,
        environment=environment,
        path="/",
        credential=credential,
        destination_kind="aws-secrets-manager",
        region=REGION,
        config=config,
        account=None,
        adopt=None,
    )
    stage.application.configuration.add(draft, verify=True)
