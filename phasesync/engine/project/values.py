"""Values of environments that come from a file of sops: what they are in the file and in the store."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from phasesync.core.model import SecretValue, SecretWrite
from phasesync.core.project.compare import Present, Wanted
from phasesync.core.project.desired import DesiredEnvironment, DesiredProject
from phasesync.core.project.fields import key_text
from phasesync.core.project.ownership import ObjectKind
from phasesync.engine.project.objects import AppliedObjects, Work, digest_of_value
from phasesync.errors import DocumentError, InvalidInputError

Values = Mapping[tuple[str, str], SecretValue]
"""(folder, key) -> value."""


@dataclass(frozen=True, kw_only=True)
class ValueFiles:
    """
    The values of the environments that a file manages: each file is decrypted once.

    Attributes:
        decrypt: path of a file -> its values.
    """

    decrypt: Callable[[str], Values]
    _read: dict[str, Values] = field(default_factory=dict, repr=False)

    def values_of(self, environment: DesiredEnvironment) -> Values | None:
        """Return the values of an environment; None if no file manages it. DocumentError."""
        path = environment.values_file
        if path is None:
            return None
        if path not in self._read:
            try:
                self._read[path] = self.decrypt(path)
            except InvalidInputError as error:
                place, hint = environment.values_place or environment.place, f"; {error.hint}" if error.hint else ""
                raise DocumentError([f"{place}: {error.message}{hint}"]) from None
        return self._read[path]


def environments_of(project: DesiredProject) -> Iterable[DesiredEnvironment]:
    """Go through the environments of a document."""
    return (each for each in project if isinstance(each, DesiredEnvironment))


def want_values(work: Work, files: ValueFiles, project: DesiredProject) -> list[Wanted]:
    """Return what the files of a document want their environments to have."""
    wanted = []
    for environment in environments_of(project):
        values = files.values_of(environment)
        if values is not None:
            wanted.append(
                Wanted(
                    kind=ObjectKind.VALUES,
                    name=environment.name,
                    spec={"keys": _names(values)},
                    place=str(environment.values_place or environment.place),
                    hidden=_digests(work, values),
                )
            )
    return wanted


def describe_values(work: Work, applied: AppliedObjects, names: Mapping[str, str]) -> list[Present]:
    """
    Return the values of some environments as they are.

    `names`: `app/environment` in the store -> as a document names it, which may be the name before a change by hand.
    """
    if not names:
        return []
    described = []
    for environment in work.context.store.apps.list_environments():
        if environment.label not in names:
            continue
        values = present_values(work, environment.app, environment.name)
        owner = applied.get((ObjectKind.VALUES, environment.id))
        described.append(
            Present(
                kind=ObjectKind.VALUES,
                id=environment.id,
                name=names[environment.label],
                spec={"keys": _names(values)},
                hidden=_digests(work, values),
                applied=owner,
            )
        )
    return described


def present_values(work: Work, app: str, environment: str) -> Values:
    """Return the values of an environment in the store."""
    return {
        (secret.path, secret.key): secret.value
        for secret in work.context.store.secrets.list_secrets(app, environment)
        if secret.value is not None
    }


def write_values(work: Work, environment: DesiredEnvironment, values: Values) -> None:
    """Set what a file has, and unset what it does not have, in one edit."""
    present = present_values(work, environment.app, environment.environment)
    work.context.store.secrets.edit(
        environment.app,
        environment.environment,
        actor=work.actor,
        origin="import",
        writes=[SecretWrite(path=folder, key=key, value=value) for (folder, key), value in sorted_items(values)],
        unsets=sorted(present.keys() - values.keys()),
    )


def sorted_items(values: Values) -> list[tuple[tuple[str, str], SecretValue]]:
    """Return values by folder and key."""
    return [(key, values[key]) for key in sorted(values)]


def values_held(wanted: Wanted, present: Present) -> str | None:
    """
    Return why the removal of keys needs an approval, None if it does not.

    The limits are those of the guard of a sync: more than half of the keys and at least two, or all of them.
    """
    former, later = set(present.spec["keys"]), set(wanted.spec["keys"])
    removed = len(former - later)
    if removed and not later:
        return f"would empty {present.name}: its file has no key, the store has {len(former)}"
    if removed >= 2 and removed * 2 > len(former):
        return f"would remove {removed} of the {len(former)} keys of {present.name}; the limit is half of them"
    return None


def _names(values: Values) -> list[str]:
    return sorted(key_text(folder, key) for folder, key in values)


def _digests(work: Work, values: Values) -> dict[str, str]:
    return {key_text(folder, key): digest_of_value(work, value) for (folder, key), value in values.items()}
