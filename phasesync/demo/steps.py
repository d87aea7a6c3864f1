"""
Steps in which values change: here, elsewhere, several at once, while a sync is paused.

Steps in which something could go wrong: an emptied environment, a daemon killed in the middle of a write.

The step of dynamic secrets: a user of a minute's life, which is gone when its command is.
"""

from dataclasses import replace
from datetime import timedelta
from typing import Final

from phasesync.core.daemons import DaemonRole
from phasesync.core.dynamic import DynamicConfig, DynamicDraft
from phasesync.core.iam_users import DEFAULT_TEMPLATE
from phasesync.core.run import Outcome, Run
from phasesync.core.sync import SyncStatus
from phasesync.demo.canary import find_in_tree
from phasesync.demo.stage import ACTOR, APP, PRODUCTION, STAGING, Stage

V2 = "https://api.shop.example/v2"
V3 = "https://api.shop.example/v3"


def edit_one(stage: Stage) -> None:
    """Step: one edit reaches both syncs."""
    screen = stage.screen
    screen.step(
        "An edit goes out by itself, also to whoever refers to it",
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
    """Step: somebody writes at AWS; the daemon puts the store's value back."""
    screen = stage.screen
    screen.step(
        "Somebody edits the secret at AWS",
        "Drift shows in the version id that DescribeSecret reports; no value is read for it. Checked every second "
        "here, every 5 minutes by default.",
    )
    screen.command("aws secretsmanager put-secret-value --secret-id shop/production ...", "by somebody else")
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


V4 = "https://api.shop.example/v4"


def hold_an_emptied_environment(stage: Stage) -> None:
    """Step: the guard holds what would empty a secret, until somebody approves."""
    screen, application = stage.screen, stage.application
    screen.step(
        "The guard holds what looks like an accident",
        "Emptying a secret, or dropping more than half of its keys, waits for a person who names exactly this plan.",
    )
    before = stage.at_aws(STAGING)
    keys = [(one.path, one.key) for one in application.store.secrets.list_secrets(APP, "staging")]
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
    """Step: kill -9 between AWS's write and our note of it."""
    screen = stage.screen
    screen.step(
        "kill -9 in the middle of a write",
        "The daemon dies after AWS has written and before that could be noted. The journal says what it was about to "
        "write, and under which version id; so the standby finds it done and does not write it again.",
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


def read_the_log(stage: Stage) -> None:
    """Step: the sync log and the calls that AWS saw."""
    screen, log = stage.screen, stage.application.store.runs
    screen.step("The sync log", "Every run: what woke it, what it did, how many AWS calls and versions it took.")
    screen.command("phasesync runs list --outcome applied,held,interrupted")
    told = (Outcome.APPLIED, Outcome.HELD, Outcome.INTERRUPTED)
    runs: list[Run] = log.list_runs(outcomes=told, limit=1000)
    screen.runs(runs)
    quiet = log.list_runs(outcomes=(Outcome.UNCHANGED,), limit=1000)
    screen.say(f"and {len(quiet)} that found nothing to do, at {_calls_each(quiet)} each.")
    ours = {key for account in stage.accounts.values() for key in account.access_key_ids}
    calls = stage.emulator.calls(except_by=ours)
    made = ", ".join(f"{operation} {count}" for operation, count in sorted(calls.items()))
    screen.say(f"What AWS saw of phasesync: {made}.")
    screen.claim("no value was ever read", calls["GetSecretValue"] == 0 and calls["PutSecretValue"] > 0)


def stop(stage: Stage) -> None:
    """Step: the daemon stops when it is told to; then what it leaves on disk is searched."""
    screen = stage.screen
    screen.step("The end", "SIGTERM lets a call in hand finish, and ends the daemon.")
    working = stage.daemon(DaemonRole.ACTIVE)
    screen.claim("the daemon has stopped, with exit code 0", working is not None and working.stop() == 0)
    # Not before it is closed: whoever opens and closes the file of a SQLite database takes the locks away that the same
    # process holds on it.
    stage.application.close()
    found = find_in_tree(stage.folder, stage.values)
    screen.claim("none of the values stands in the clear in the database or in the daemons' logs", not found)


def _calls_each(runs: list[Run]) -> str:
    counts = {run.aws_calls for run in runs}
    return "/".join(map(str, sorted(counts))) + " AWS call" + ("" if counts == {1} else "s")


READ_BUCKETS: Final = (
    '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:ListAllMyBuckets","Resource":"*"}]}'
)


def lend_a_key(stage: Stage) -> None:
    """Step: short-lived credentials, used and taken back."""
    screen, application, account = stage.screen, stage.application, stage.accounts[STAGING]
    screen.step(
        "Credentials that end by themselves",
        "A lease is an IAM user of its own, with what its recipe says and no more. The daemon removes it when its time "
        "is over, whatever died meanwhile; here it goes at once.",
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
    handed_out = {key: value.reveal_text() for key, value in issued.credentials.items()}
    key = (handed_out["AWS_ACCESS_KEY_ID"], handed_out["AWS_SECRET_ACCESS_KEY"])
    who = account.holder_of(*key)
    screen.say(f"AWS says to whom the key belongs: {who}")
    screen.claim("it is the user of the lease", who is not None and who == issued.lease.principal)
    screen.command(f"phasesync leases revoke {issued.lease.id}")
    done = application.lease_operations.revoke(issued.lease.id, actor=ACTOR)
    screen.claim("AWS refuses the key, and the user is gone", account.holder_of(*key) is None and done.error is None)
    screen.claim("no other user was touched", account.users() == ["phasesync"])
