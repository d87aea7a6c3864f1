"""Steps in which something could go wrong: an emptied environment, a daemon killed in the middle of a write."""

from phasesync.core.run import Run
from phasesync.core.status import Outcome, SyncStatus
from phasesync.demo.canary import find_in_tree
from phasesync.demo.stage import ACTOR, APP, PRODUCTION, STAGING, Stage
from phasesync.ports import MemberRole

V4 = "https://api.shop.example/v4"


def hold_an_emptied_environment(stage: Stage) -> None:
    """Step: the guard holds what would empty a secret, until somebody approves."""
    screen, application = stage.screen, stage.application
    screen.step(
        "The guard holds what looks like an accident",
        "Emptying a secret, or dropping more than half of its keys, waits for a person who names exactly this plan.",
    )
    before = stage.at_aws(STAGING)
    keys = [(one.path, one.key) for one in application.environments.list_secrets(APP, "staging")]
    application.environments.edit(APP, "staging", actor=ACTOR, origin="unset", unsets=keys)
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
    stage.until("the second daemon stands by", lambda: stage.daemon(MemberRole.STANDBY))
    working, standby = stage.daemons
    stage.emulator.do("PutSecretValue", lambda _: working.kill(), when="after")
    stage.set("production", API_URL=V4)
    stage.until("the daemon dies in its write", lambda: working.pid is None)
    version = stage.at_aws(PRODUCTION).version_id
    screen.say("It died. The standby takes over when its claim has ended, after 6 s here and 15 s by default.")
    stage.until_in_sync(PRODUCTION)
    stored = stage.show(PRODUCTION)
    screen.claim("the standby works now", stage.daemon(MemberRole.ACTIVE) is standby)
    screen.claim("the edit is there", stored.keys["API_URL"] == V4)
    screen.claim(
        "there is one version of it, not two", stage.versions(PRODUCTION) == before + 1 and stored.version_id == version
    )


def read_the_log(stage: Stage) -> None:
    """Step: the sync log and the calls that AWS saw."""
    screen, state = stage.screen, stage.application.state
    screen.step("The sync log", "Every run: what woke it, what it did, how many AWS calls and versions it took.")
    screen.command("phasesync runs list --outcome applied,held,interrupted")
    told = (Outcome.APPLIED, Outcome.HELD, Outcome.INTERRUPTED)
    runs: list[Run] = state.list_runs(outcomes=told, limit=1000)
    screen.runs(runs)
    quiet = state.list_runs(outcomes=(Outcome.UNCHANGED,), limit=1000)
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
    working = stage.daemon(MemberRole.ACTIVE)
    screen.claim("the daemon has stopped, with exit code 0", working is not None and working.stop() == 0)
    # Not before it is closed: whoever opens and closes the file of a SQLite database takes the locks away that the same
    # process holds on it.
    stage.application.close()
    found = find_in_tree(stage.folder, stage.values)
    screen.claim("none of the values stands in the clear in the database or in the daemons' logs", not found)


def _calls_each(runs: list[Run]) -> str:
    counts = {run.aws_calls for run in runs}
    return "/".join(map(str, sorted(counts))) + " AWS call" + ("" if counts == {1} else "s")
