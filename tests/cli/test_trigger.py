"""Asking the daemon for a run."""

from tests.cli.conftest import CommandLine


def test_a_trigger_that_no_daemon_hears_is_warned_of(shop: CommandLine) -> None:
    shop.done("credentials", "add", "host", "--type", "ambient", "--region", "eu-central-1")
    shop.done(
        *("syncs", "add", "web", "--env", "shop/prod", "--credential", "host", "--secret-name", "web", "--no-verify")
    )

    done = shop.done("syncs", "trigger", "web")

    assert "warning: no daemon is running" in done.stderr
    assert "phasesync syncs run web" in done.stderr
