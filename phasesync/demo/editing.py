"""Steps in which values change: here, elsewhere, several at once, while a sync is paused."""

from phasesync.demo.stage import ACTOR, PRODUCTION, STAGING, Stage

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
