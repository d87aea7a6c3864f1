"""What all tests of durability share."""

import pytest

from phasesync.engine import stale_database as restored


@pytest.fixture(autouse=True)
def look_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    """No database here is more than some writes behind AWS; looking for a thousand is a third of a run."""
    monkeypatch.setattr(restored, "FAR_AHEAD", 60)
