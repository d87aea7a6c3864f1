"""The steps of the tour, in their order: each does something, shows it, and checks what it says of it."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Final

from phasesync.core.chores import DaemonRole
from phasesync.core.credential import CredentialDraft, CredentialType
from phasesync.core.dynamic import DynamicConfig, DynamicDraft
from phasesync.core.iam.role_setup import trust_policy
from phasesync.core.iam.sync_policy import starter_sync_policy
from phasesync.core.lease_users import DEFAULT_TEMPLATE
from phasesync.core.model import SecretValue
from phasesync.core.run import Outcome, Run
from phasesync.core.sync import SyncConfig, SyncDraft, SyncStatus
from phasesync.demo.canary import find_in_tree
from phasesync.demo.isolation import REGION
from phasesync.demo.stage import ACTOR, APP, PRODUCTION, SECRET_NAMES, STAGING, Stage

ENVIRONMENTS: Final = ("development", "staging", "production")
INTERVAL: Final = timedelta(seconds=1)
"""Between drift checks. Sweeps come every 30 s; the tour does not want to wait that long."""
V2: Final = "https://api.shop.example/v2"
V3: Final = "https://api.shop.example/v3"
V4: Final = "https://api.shop.example/v4"
READ_BUCKETS: Final = (
    '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:ListAllMyBuckets","Resource":"*"}]}'
)


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
        all(environment.revision == 1 and environment.keys for environment in listed) and len(listed) == 3,
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
    _add_sync(stage, PRODUCTION, environment="production", credential="role", kms_key=kms_key)
    screen.command(
        f"phasesync syncs add {STAGING} --env {APP}/staging --credential keys "
        f"--secret-name {SECRET_NAMES[STAGING]} --interval 1s"
    )
    _add_sync(stage, STAGING, environment="staging", credential="keys", kms_key=None)
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


def edit_one(stage: Stage) -> None:
    """Step: one edit reaches both syncs."""
    screen = stage.screen
    screen.step(
        "An edit goes out by itself, also through references",
        "The daemon notices a commit within 100 ms, and writes only what differs.",
    )
    before = {sync: stage.versions(sync) for sync in (PRODUCTION, STAGING)}
    stage.set("production", API_URL=V2)
    took = stage.until_at_aws(PRODUCTION, API_URL=V2)
    took += stage.until_at_aws(STAGING, UPSTREAM=f"{V2}/mirror")
    stage.until_in_sync(PRODUCTION, STAGING)
    stage.show(PRODUCTION)
    stage.show(STAGING)
    carried = [stage.at_aws(PRODUCTION).keys["API_URL"], stage.at_aws(STAGING).keys["UPSTREAM"]]
    screen.claim("both secrets carry the edit", carried == [V2, f"{V2}/mirror"], f"{took:.2f} s after the commit")
    screen.claim("each got one new version", all(stage.versions(sync) == count + 1 for sync, count in before.items()))


def edit_quickly(stage: Stage) -> None:
    """Step: five edits in a row."""
    screen = stage.screen
    screen.step(
        "Five edits in a row make one or two writes",
        "AWS keeps 100 versions of a secret, so edits that follow within 500 ms share one write.",
    )
    before = stage.versions(PRODUCTION)
    for level in ("error", "warning", "notice", "debug", "trace"):
        stage.set("production", LOG_LEVEL=level)
    stage.until_at_aws(PRODUCTION, LOG_LEVEL="trace")
    stage.until_in_sync(PRODUCTION)
    stored = stage.show(PRODUCTION)
    written = stage.versions(PRODUCTION) - before
    screen.claim("the last value is there", stored.keys["LOG_LEVEL"] == "trace")
    screen.claim("one or two versions were written", 1 <= written <= 2, f"{written}")


def pause_one(stage: Stage) -> None:
    """Step: a paused sync gets nothing, the others go on."""
    screen, operations = stage.screen, stage.application.operations
    screen.step("A pause", "A paused sync writes nothing, whatever is edited; the others go on.")
    screen.command(f'phasesync syncs pause {STAGING} --reason "load test"')
    operations.pause(STAGING, actor=ACTOR, reason="load test", until=None)
    version = stage.at_aws(STAGING).version_id
    stage.set("production", API_URL=V3)
    stage.until_at_aws(PRODUCTION, API_URL=V3)
    stage.until_in_sync(PRODUCTION)
    stage.show(PRODUCTION)
    stored = stage.show(STAGING)
    screen.claim(
        "production has the edit, staging still has the version from before the pause", stored.version_id == version
    )


def repair_an_outside_edit(stage: Stage) -> None:
    """Step: a write at AWS; the daemon restores the store's value."""
    screen = stage.screen
    screen.step(
        "Drift: a value is edited at AWS",
        "Drift shows in the version id that DescribeSecret reports; no value is read for it. Checked every second "
        "here, every 30 seconds by default.",
    )
    screen.command("aws secretsmanager put-secret-value --secret-id shop/production ...", "by someone else")
    version = stage.at_aws(STAGING).version_id
    outside = stage.accounts[PRODUCTION].write("shop/production", '{"API_URL":"https://somewhere.else.example"}')
    stage.show(PRODUCTION)
    took = stage.until_at_aws(PRODUCTION, API_URL=V3)
    stage.until_in_sync(PRODUCTION)
    stored = stage.show(PRODUCTION)
    screen.claim("the store's values are back, as a new version", stored.version_id != outside, f"after {took:.1f} s")
    screen.claim("the paused sync is as it was", stage.at_aws(STAGING).version_id == version)


def resume_one(stage: Stage) -> None:
    """Step: a resumed sync catches up."""
    screen = stage.screen
    screen.step("A resume", "What was edited meanwhile goes out at once.")
    before = stage.versions(STAGING)
    screen.command(f"phasesync syncs resume {STAGING}")
    stage.application.operations.resume(STAGING, actor=ACTOR)
    took = stage.until_at_aws(STAGING, UPSTREAM=f"{V3}/mirror")
    stage.until_in_sync(STAGING)
    stage.show(STAGING)
    screen.claim("staging caught up with one version", stage.versions(STAGING) == before + 1, f"{took:.2f} s")


def hold_an_emptied_environment(stage: Stage) -> None:
    """Step: the guard holds a plan that would empty a secret, until a person approves it."""
    screen, application = stage.screen, stage.application
    screen.step(
        "The guard holds what looks like an accident",
        "Emptying a secret, or dropping more than half of its keys, waits for a person who names exactly this plan.",
    )
    before = stage.at_aws(STAGING)
    keys = [(entry.path, entry.key) for entry in application.store.secrets.list_secrets(APP, "staging")]
    application.store.secrets.edit(APP, "staging", actor=ACTOR, origin="unset", unsets=keys)
    for _, key in keys:
        screen.command(f"phasesync secrets unset {APP}/staging {key}")
    stage.until_status(STAGING, SyncStatus.HELD)
    screen.command(f"phasesync syncs plan {STAGING}")
    guarded = application.operations.plan(STAGING).guarded
    for held in guarded.held:
        screen.say(f"held: {held.reason}")
    screen.claim("nothing was written", stage.show(STAGING) == before)
    digest = guarded.digest or ""
    screen.command(f"phasesync syncs approve {STAGING} --plan {digest}")
    application.operations.approve(STAGING, digest, actor=ACTOR)
    stage.until(f"{STAGING} is empty at AWS", lambda: stage.at_aws(STAGING).value == "{}")
    stage.until_in_sync(STAGING)
    stored = stage.show(STAGING)
    screen.claim("after the approval it was", stored.value == "{}" and stored.version_id != before.version_id)


def survive_a_kill(stage: Stage) -> None:
    """Step: kill -9 after AWS has written and before that is noted."""
    screen = stage.screen
    screen.step(
        "kill -9 in the middle of a write",
        "The daemon dies after AWS has written and before it could note that. The journal says what it was about to "
        "write, and under which version id; so the standby finds the write done and does not repeat it.",
    )
    before = stage.versions(PRODUCTION)
    stage.until("the second daemon stands by", lambda: stage.daemon(DaemonRole.STANDBY))
    working, standby = stage.daemons
    stage.emulator.do("PutSecretValue", lambda _: working.kill(), when="after")
    stage.set("production", API_URL=V4)
    stage.until("the daemon dies in its write", lambda: working.pid is None)
    version = stage.at_aws(PRODUCTION).version_id
    screen.say("It died. The standby takes over when its claim has ended, after 6 s here and 15 s by default.")
    stage.until_in_sync(PRODUCTION)
    stored = stage.show(PRODUCTION)
    screen.claim("the standby works now", stage.daemon(DaemonRole.ACTIVE) is standby)
    screen.claim("the edit is there", stored.keys["API_URL"] == V4)
    screen.claim(
        "there is one version of it, not two", stage.versions(PRODUCTION) == before + 1 and stored.version_id == version
    )


def issue_a_lease(stage: Stage) -> None:
    """Step: short-lived credentials, used and revoked."""
    screen, application, account = stage.screen, stage.application, stage.accounts[STAGING]
    screen.step(
        "Credentials that end by themselves",
        "A lease is an IAM user of its own, with the rights of its dynamic secret and no more. The daemon removes it "
        "at its end, even after a crash; here it is revoked at once.",
    )
    screen.command(
        f"phasesync dynamic add ci --env {APP}/staging --credential keys --inline-policy read-buckets.json "
        "--default-ttl 15m --max-ttl 1h"
    )
    config = DynamicConfig(
        user_template=DEFAULT_TEMPLATE, default_ttl=timedelta(minutes=15), max_ttl=timedelta(hours=1)
    )
    draft = DynamicDraft(
        name="ci",
        app=APP,
        environment="staging",
        path="/",
        credential="keys",
        issuer="aws-iam-user",
        config=replace(config, inline_policy=READ_BUCKETS),
    )
    application.dynamic_configuration.add(draft)
    screen.command("phasesync leases issue ci")
    issued = application.lease_operations.issue("ci", actor=ACTOR)
    credentials = {key: value.reveal_text() for key, value in issued.credentials.items()}
    key = (credentials["AWS_ACCESS_KEY_ID"], credentials["AWS_SECRET_ACCESS_KEY"])
    arn = account.holder_of(*key)
    screen.say(f"AWS says that the key belongs to {arn}")
    screen.claim("it is the user of the lease", arn is not None and arn == issued.lease.principal)
    screen.command(f"phasesync leases revoke {issued.lease.id}")
    revoked = application.lease_operations.revoke(issued.lease.id, actor=ACTOR)
    screen.claim("AWS refuses the key, and the user is gone", account.holder_of(*key) is None and revoked.error is None)
    screen.claim("no other user was touched", account.users() == ["phasesync"])


def read_the_log(stage: Stage) -> None:
    """Step: the sync log and the calls that AWS saw."""
    screen, log = stage.screen, stage.application.store.runs
    screen.step("The sync log", "Every run: what woke it, what it did, how many AWS calls and versions it took.")
    screen.command("phasesync runs list --outcome applied,held,interrupted")
    outcomes = (Outcome.APPLIED, Outcome.HELD, Outcome.INTERRUPTED)
    runs: list[Run] = log.list_runs(outcomes=outcomes, limit=1000)
    screen.runs(runs)
    quiet = log.list_runs(outcomes=(Outcome.UNCHANGED,), limit=1000)
    screen.say(f"and {len(quiet)} that found nothing to do, at {_calls_each(quiet)} each.")
    ours = {key for account in stage.accounts.values() for key in account.access_key_ids}
    calls = stage.emulator.calls(except_by=ours)
    call_counts = ", ".join(f"{operation} {count}" for operation, count in sorted(calls.items()))
    screen.say(f"What AWS saw of phasesync: {call_counts}.")
    screen.claim("no value was ever read", calls["GetSecretValue"] == 0 and calls["PutSecretValue"] > 0)


def stop_the_daemon(stage: Stage) -> None:
    """Step: the daemon stops on SIGTERM; then what it leaves on disk is searched for values."""
    screen = stage.screen
    screen.step("The end", "SIGTERM lets a call in hand finish, and ends the daemon.")
    working = stage.daemon(DaemonRole.ACTIVE)
    screen.claim("the daemon has stopped, with exit code 0", working is not None and working.stop() == 0)
    # Not before it is closed: whoever opens and closes the file of a SQLite database takes the locks away that the same
    # process holds on it.
    stage.application.close()
    leaks = find_in_tree(stage.folder, stage.values)
    screen.claim("none of the values stands in the clear in the database or in the daemons' logs", not leaks)


STEPS: Final[tuple[Callable[[Stage], None], ...]] = (
    fill_the_store,
    add_credentials,
    add_syncs,
    edit_one,
    edit_quickly,
    pause_one,
    repair_an_outside_edit,
    resume_one,
    hold_an_emptied_environment,
    survive_a_kill,
    issue_a_lease,
    read_the_log,
    stop_the_daemon,
)
"""In the order of the tour."""


def _add_sync(stage: Stage, name: str, *, environment: str, credential: str, kms_key: str | None) -> None:
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


def _calls_each(runs: list[Run]) -> str:
    counts = {run.aws_calls for run in runs}
    return "/".join(map(str, sorted(counts))) + " AWS call" + ("" if counts == {1} else "s")
