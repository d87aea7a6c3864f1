"""
Adopting: an operator looks at what stands at a sync's remote names, and consents to have it taken over.

The next run does it. Here values are read only where the operator wants them imported first, and then exactly the
versions that were read may be written over.
"""

from dataclasses import dataclass, replace

from phasesync.core.remote import JournalEntry
from phasesync.core.sync import Adopt, Sync
from phasesync.core.sync_state import SyncDraft
from phasesync.engine.adoption_preview import Survey, survey
from phasesync.engine.context import Context
from phasesync.engine.hints import hints_for, naming
from phasesync.engine.import_values import ImportResult, import_values
from phasesync.engine.observe import look_steadily
from phasesync.engine.pinned_account import verify_account
from phasesync.errors import IllegalTransitionError
from phasesync.ports.destination import Destination


@dataclass(frozen=True, kw_only=True)
class AdoptionPreview:
    """
    What an operator may take over.

    Attributes:
        draft: the sync, with the consent that was offered.
        found: what stands at its remote names.
    """

    sync: Sync
    draft: SyncDraft
    account: str
    found: Survey
    destination: Destination


class Adoption:
    """Takes objects over that are not ours."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def offer(self, name: str, adopt: Adopt) -> AdoptionPreview:
        """
        Look at what stands at the remote names of a sync.

        Args:
            name: of the sync.
            adopt: what the operator has in mind.

        Raises:
            NotFoundError: the sync.
            AccountMismatchError: the credential leads to another account than the pinned one.
            DestinationError: AWS does not say what is there.
        """
        state = self._context.store.syncs.state_of(name)
        draft = replace(draft_of(state.sync), adopt=adopt)
        with hints_for(state.sync):
            destination = self._context.destinations.open(draft.destination_kind, state.credential, draft.region)
            account = verify_account(state, destination)
            # What a run makes meanwhile is ours, and not in the journal that was read before.
            found = look_steadily(
                state.journal,
                lambda: self._context.store.syncs.state_of(name).journal,
                lambda journal: self._survey(destination, draft, journal, sync_id=state.sync.id, account=account),
                doubtful=lambda found: bool(found.candidates),
                moved=lambda before, after: before != after,
            )
        return AdoptionPreview(sync=state.sync, draft=draft, account=account, found=found, destination=destination)

    def _survey(
        self,
        destination: Destination,
        draft: SyncDraft,
        journal: tuple[JournalEntry, ...],
        *,
        sync_id: str,
        account: str,
    ) -> Survey:
        stored = {
            entry.remote_name: entry for entry in journal if (entry.account, entry.region) == (account, draft.region)
        }
        return survey(
            destination,
            self._context,
            draft,
            entries=stored,
            sync_id=sync_id,
            account=account,
            instance_id=self._context.instance_id,
            with_others=draft.adopt is not Adopt.OVERWRITE,
        )

    def accept(self, offer: AdoptionPreview, *, actor: str) -> ImportResult | None:
        """
        Import what is to be imported, as one edit, and note the consent; the next run carries it out.

        Args:
            offer: what the operator was shown.
            actor: who consented.

        Returns:
            What was imported; None where nothing was to be.

        Raises:
            IllegalTransitionError: there is nothing that can be taken over.
            InvalidInputError, DestinationError: nothing was imported, and no consent noted.
        """
        if not offer.found.takeable:
            refused = "; ".join(f"{one.remote_name}: {one.refusal}" for one in offer.found.candidates)
            hints = dict.fromkeys(naming(one.hint, offer.sync.name) for one in offer.found.candidates if one.hint)
            raise IllegalTransitionError(
                f"there is nothing to take over for {offer.sync.name}" + (f" ({refused})" if refused else ""),
                hint="; ".join(hints) or None,
            )
        adopt = offer.draft.adopt or Adopt.OVERWRITE
        if adopt is Adopt.OVERWRITE:
            shown = {one.remote_name: one.version or "" for one in offer.found.takeable}
            self._context.store.syncs.consent_to_adopt(offer.sync.name, adopt, actor=actor, versions=shown)
            return None
        with hints_for(offer.sync):
            taken = import_values(
                self._context,
                offer.destination,
                offer.draft,
                offer.found.takeable,
                actor=actor,
                instead=f"phasesync syncs adopt {offer.sync.name}, without --import",
            )
        self._context.store.syncs.consent_to_adopt(offer.sync.name, adopt, actor=actor, versions=taken.versions)
        return taken


def draft_of(sync: Sync) -> SyncDraft:
    """Return a sync as what an operator said of it."""
    return SyncDraft(
        name=sync.name,
        app=sync.app,
        environment=sync.environment,
        path=sync.path,
        credential=sync.credential,
        destination_kind=sync.destination_kind,
        region=sync.region,
        config=sync.config,
        account=sync.account,
        adopt=sync.adopt,
        adopt_versions=sync.adopt_versions,
    )
