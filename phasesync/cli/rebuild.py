"""`phasesync rebuild`: an installation anew from what is at AWS, after its root key was lost."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from phasesync.cli.dry_run import dry_run_flag, show_dry_run
from phasesync.cli.input import confirm, confirmation_options, read_file
from phasesync.cli.invocation import invocation, with_application
from phasesync.cli.output import Output, output_option
from phasesync.cli.params import DIGEST, REGION, Name, comma_list
from phasesync.core.canonical_json import parse_json_document
from phasesync.core.rebuild import Said
from phasesync.core.sync import Layout
from phasesync.errors import IllegalTransitionError, InvalidInputError

if TYPE_CHECKING:
    from phasesync.bootstrap import Application
    from phasesync.core.rebuild import FoundObject, RebuildPlan, RebuiltSync
    from phasesync.engine.rebuild import LeftOut, Rebuild

_WORDS = frozenset({"id", "name", "env", "path", "region", "layout", "names"})
"""What a mapping says of a sync."""
_SHOWN_WORDS = frozenset({"account", "objects", "keys", "kms_key", "writes", "unwritable", "left_behind"})
"""What a plan shows of it beside that: AWS says it, so a mapping does not."""
_MEMBERS = frozenset({"syncs", "skip"})
"""What a mapping has."""
_SHOWN_MEMBERS = frozenset(
    {
        *("instance", "credential", "digest", "environments", "keys"),
        *("problems", "left_out", "missing", "not_in_former"),
    }
)
"""What a plan shows beside that."""
_PROGRESS_EVERY = 100
_SHOWN = 10


def _regions(ctx: click.Context, param: click.Parameter, value: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(REGION.convert(part, param, ctx) for part in comma_list(ctx, param, value))


@click.command(short_help="After the root key was lost: everything anew from AWS.")
@click.option("--from-aws", is_flag=True, required=True, help="From the AWS secrets with our tags.")
@click.option(
    "--credential",
    type=Name("credential"),
    required=True,
    help="Credential that lists and reads the AWS secrets.",
)
@click.option(
    "--syncs-credential",
    type=Name("credential"),
    help="Credential that the syncs use from then on. Default: the one of --credential.",
)
@click.option(
    "--region",
    "regions",
    multiple=True,
    callback=_regions,
    metavar="REGION",
    help="AWS Region to look in. Repeat it, or separate several with commas. Default: the credential's.",
)
@click.option(
    "--instance",
    metavar="ID",
    help="Id of the lost installation, from the tag phasesync:instance. Default: the only one there.",
)
@click.option(
    "--former-database",
    metavar="URL",
    help="The former database: names and settings in it are not encrypted. - reads the URL from stdin. Default: the "
    "names of the AWS secrets tell.",
)
@click.option(
    "--mapping",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="JSON that says what a sync was, where nothing else tells it; docs/rebuild.md describes it. Default: none.",
)
@click.option(
    "--plan",
    "digest",
    type=DIGEST,
    metavar="DIGEST",
    help="Do exactly what --dry-run showed with this digest, or nothing. Default: what is there now.",
)
@confirmation_options
@dry_run_flag
@output_option
@with_application
def rebuild(
    application: "Application",
    from_aws: bool,
    credential: str,
    syncs_credential: str | None,
    regions: Sequence[str],
    instance: str | None,
    former_database: str | None,
    mapping: Path | None,
    digest: str | None,
    dry_run: bool,
    yes: bool,
    no_input: bool,
    out: Output,
) -> int:
    """
    Make apps, environments, secrets, syncs and journal anew from the AWS secrets with our tags.

    For an installation whose root key was lost: into a new database with a new root key. Values are read with the
    rights of the credential; nothing is written at AWS. The id of the installation is taken over, so the AWS secrets
    stay ours, and syncs are in step without a new version. Shows a plan and asks.

    \b
    Examples:
      phasesync rebuild --from-aws --credential admin --dry-run
      phasesync rebuild --from-aws --credential admin --former-database sqlite:////var/lib/phasesync/lost.db
      phasesync rebuild --from-aws --credential admin --mapping syncs.json --plan 0123456789abcdef --yes
    """
    from phasesync.cli.output import show_identity
    from phasesync.cli.syncs import AWS_SECRETS_MANAGER
    from phasesync.engine.error_hints import hints_about
    from phasesync.engine.rebuild import carry_out, prepare_rebuild

    reach = application.store.credentials.get(credential)
    used = application.store.credentials.get(syncs_credential or credential).name
    said, skipped = ({}, frozenset[str]()) if mapping is None else _read_mapping(mapping)
    mapped, former = frozenset(said), frozenset[str]()
    if former_database is not None:
        instance, said, former = _with_former(former_database, instance, said)
    with hints_about(credential):
        show_identity(application, reach, out)
        prepared = prepare_rebuild(
            application.context,
            credential,
            kind=AWS_SECRETS_MANAGER,
            regions=regions or (reach.region,),
            instance_id=instance,
            said=said,
            former=former,
            mapped=mapped,
            skipped=skipped,
            used=used,
            report=lambda count: out.say(f"read {count:,} AWS secrets") if count % _PROGRESS_EVERY == 0 else None,
        )
    document = rebuild_document(prepared)
    if not out.as_json:
        _show(prepared, document, out)
    if syncs_credential is None:
        out.note(f"each sync gets the credential {used}, which can read values; for another: --syncs-credential")
    if digest is not None and digest != prepared.plan.digest:
        raise IllegalTransitionError(
            f"what is at AWS, or what was said of it, is not what the plan {digest} was made from: the plan is "
            f"{prepared.plan.digest} now",
            hint="look at it again: phasesync rebuild --from-aws --dry-run",
        )
    if dry_run:
        # A rehearsal of the whole, so that nothing is shown that could not be done.
        with application.store.database.rehearsal():
            if not prepared.plan.problems:
                carry_out(application.context, prepared, actor=invocation().actor)
        show_dry_run(out, f"would rebuild {_summary(prepared.plan)} (plan {prepared.plan.digest})", document)
        return IllegalTransitionError.exit_code if prepared.plan.problems else 0
    if not prepared.plan.problems:
        confirm(f"rebuild {_summary(prepared.plan)}", yes=yes, no_input=no_input)
    carry_out(application.context, prepared, actor=invocation().actor)
    out.done(f"rebuilt {_summary(prepared.plan)}; next: phasesync syncs run --all, then start the daemon", document)
    return 0


def rebuild_document(prepared: "Rebuild") -> dict[str, Any]:
    """Return a plan of a rebuild; its `syncs` are what --mapping takes."""
    plan = prepared.plan
    return {
        "instance": plan.instance_id,
        "digest": plan.digest,
        "credential": prepared.credential,
        "environments": [f"{app}/{environment}" for app, environment in plan.environments],
        "keys": sum(len(values) for values in plan.folders.values()),
        "syncs": [_sync_document(sync, plan) for sync in plan.syncs],
        "problems": [
            {
                "id": problem.sync_id,
                "reason": problem.reason,
                "hint": problem.hint,
                "objects": [_object_document(one) for one in problem.objects],
            }
            for problem in plan.problems
        ],
        "left_out": [_object_document(one) | {"reason": one.reason} for one in prepared.left_out],
        "missing": [
            {"id": sync_id, "name": one.name, "region": one.region} for sync_id, one in prepared.missing.items()
        ],
        "not_in_former": [sync.id for sync in prepared.not_in_former],
    }


def _object_document(item: "FoundObject | LeftOut") -> dict[str, Any]:
    return {"remote_name": item.remote_name, "region": item.region}


def _sync_document(sync: "RebuiltSync", plan: "RebuildPlan") -> dict[str, Any]:
    return {
        "id": sync.id,
        "name": sync.name,
        "env": f"{sync.app}/{sync.environment}",
        "path": sync.path,
        "layout": sync.config.layout.value,
        "names": sync.config.names,
        "account": sync.account,
        "region": sync.region,
        "objects": len(sync.objects),
        "keys": len(plan.folders[sync.app, sync.environment, sync.path]),
        "kms_key": sync.config.kms_key,
        "writes": list(sync.writes),
        "unwritable": [{"remote_name": name, "reason": reason} for name, reason in sync.unwritable.items()],
        "left_behind": [_object_document(one) for one in sync.left_behind],
    }


def _show(prepared: "Rebuild", document: Mapping[str, Any], out: Output) -> None:
    from phasesync.cli.sync_ownership import secrets_of
    from phasesync.core.rebuild import named

    out.items(document["syncs"], ["name", "env", "path", "layout", "names", "region", "objects", "keys"])
    for sync in prepared.plan.syncs:
        if sync.writes:
            out.warn(
                f"the first run of {sync.name} writes {secrets_of(sync.writes)} in {sync.region}: what is there is not "
                f"what its environment has now: {_first(sync.writes)}"
            )
        for name, reason in sync.unwritable.items():
            out.warn(f"the first run of {sync.name} cannot write {name} in {sync.region}: {reason}")
        if sync.left_behind:
            out.warn(f"{sync.name} leaves alone what its names and Region do not give: {named(sync.left_behind)}")
    for item in prepared.left_out:
        out.warn(f"{item.remote_name} in {item.region} is left out: {item.reason}")
    for one in prepared.missing.values():
        out.warn(
            f"the sync {one.name} of the former database is not rebuilt: no AWS secret here has its tag. It wrote to "
            f"{one.region}: name that Region with --region; or it has never written anything"
        )
    for sync in prepared.not_in_former:
        out.warn(
            f"{sync.name} ({named(sync.objects)}) is not in the former database: if it was removed and its tags stayed "
            f'at AWS, put {sync.id} under "skip" in the file of --mapping'
        )
    for problem in prepared.plan.problems:
        out.warn(f"{problem.subject} cannot be rebuilt: {problem.reason}; {problem.hint}")


def _first(names: Sequence[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more:,} more" if more > 0 else "")


def _summary(plan: "RebuildPlan") -> str:
    keys, objects = sum(map(len, plan.folders.values())), sum(len(sync.objects) for sync in plan.syncs)
    return (
        f"the installation {plan.instance_id}: environments: {len(plan.environments)}, keys: {keys}, syncs: "
        f"{len(plan.syncs)}, AWS secrets: {objects}"
    )


# --- what is known of the syncs


def _with_former(url: str, instance: str | None, said: dict[str, Said]) -> tuple[str, dict[str, Said], frozenset[str]]:
    """
    Return the installation's id, what is said of its syncs, and the ids of those that the former database has.

    What it has of them in the clear is what is said, and the mapping counts more.
    """
    from phasesync.cli.db import url_of_option
    from phasesync.store.rebuild import read_former

    former_instance, former = read_former(url_of_option(url, "--former-database"))
    merged = {**former, **{key: _over(former.get(key), one) for key, one in said.items()}}
    return instance or former_instance, merged, frozenset(former)


def _over(former: Said | None, said: Said) -> Said:
    """Return what the mapping says of a sync, over what the former database has of it."""
    if former is None:
        return said
    given = {name: value for name in Said.__dataclass_fields__ if (value := getattr(said, name)) is not None}
    config = former.config
    if config is not None and (said.layout or config.layout, said.names or config.names) != (
        config.layout,
        config.names,
    ):
        given["config"] = None
    return replace(former, **given)


def _read_mapping(file: Path) -> tuple[dict[str, Said], frozenset[str]]:
    """Return sync id -> what a file says of it, and the ids that it skips. InvalidInputError."""
    try:
        document: Any = parse_json_document(read_file(file))
    except InvalidInputError as error:
        raise InvalidInputError(
            error.message.replace("the value", f"{file}", 1), hint="docs/rebuild.md describes it"
        ) from None
    if isinstance(document, dict) and isinstance(document.get("would"), dict):
        document = document["would"]  # A plan, as --dry-run -o json prints it.
    if not isinstance(document, dict):
        raise _bad_mapping(file, 'it is an object with "syncs" and "skip"')
    if unknown := sorted(document.keys() - _MEMBERS - _SHOWN_MEMBERS):
        raise _bad_mapping(file, f"it has {', '.join(unknown)} beside {', '.join(sorted(_MEMBERS))}")
    items, skip = document.get("syncs", []), document.get("skip", [])
    if not isinstance(items, list) or not isinstance(skip, list) or not all(isinstance(one, str) for one in skip):
        raise _bad_mapping(file, '"syncs" is a list of objects, "skip" one of ids')
    said = [_said_of(file, item) for item in items]
    if twice := sorted(sync_id for sync_id, count in Counter(sync_id for sync_id, _ in said).items() if count > 1):
        raise _bad_mapping(file, f'it has several of {", ".join(map(repr, twice))} under "syncs"')
    return dict(said), frozenset(skip)


def _said_of(file: Path, item: Any) -> tuple[str, Said]:
    if not isinstance(item, dict) or "id" not in item:
        raise _bad_mapping(file, 'each of "syncs" is an object with an "id"')
    if wrong := sorted(word for word in item.keys() & _WORDS if not isinstance(item[word], str)):
        raise _bad_mapping(file, f"{', '.join(wrong)} of a sync is a text")
    if unknown := sorted(item.keys() - _WORDS - _SHOWN_WORDS):
        raise _bad_mapping(file, f"{', '.join(unknown)} is not one of {', '.join(sorted(_WORDS))}")
    app, slash, environment = item.get("env", "").partition("/")
    if "env" in item and not (app and slash and environment):
        raise _bad_mapping(file, '"env" has the form APP/ENV')
    layout = item.get("layout")
    if layout is not None and layout not in list(Layout):
        raise _bad_mapping(file, '"layout" is json or per-key')
    return item["id"], Said(
        name=item.get("name"),
        app=app or None,
        environment=environment or None,
        path=item.get("path"),
        region=item.get("region"),
        layout=None if layout is None else Layout(layout),
        names=item.get("names"),
    )


def _bad_mapping(file: Path, rule: str) -> InvalidInputError:
    return InvalidInputError(f"{file} is no mapping of syncs: {rule}", hint="docs/rebuild.md describes it")
