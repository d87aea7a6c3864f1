"""The step of dynamic secrets: a user of a minute's life, which is gone when its command is."""

from dataclasses import replace
from datetime import timedelta
from typing import Final

from phasesync.core.dynamic import DynamicConfig
from phasesync.core.user_names import DEFAULT_TEMPLATE
from phasesync.demo.stage import ACTOR, APP, STAGING, Stage
from phasesync.ports import DynamicDraft

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
