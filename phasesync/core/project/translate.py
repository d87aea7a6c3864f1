"""
What pydantic finds wrong, as lines for people: the place in the document, what is wrong there, and how to correct it.

Its own texts are not used, and its inputs neither: a value may stand where it does not belong.
"""

from collections.abc import Iterator
from typing import Any, Final, get_args

from pydantic import BaseModel, ValidationError

from phasesync.core.project.fields import QUOTES, WRONG, nearest, not_text
from phasesync.core.project.models import Short
from phasesync.core.project.nodes import Document, Problems, Unquoted

_HEADER: Final = ("apiVersion", "kind")
_MOST_NAMES: Final = 12
"""Names of fields that are listed where none is near."""
_OF_KEY: Final = "[key]"
"""Last step of pydantic's way to the name of a member."""


def note(error: ValidationError, document: Document, model: type[BaseModel], problems: Problems) -> None:
    """
    Note everything that is wrong with a document.

    Args:
        error: what pydantic found.
        document: the document that was read.
        model: of the whole document.
        problems: where to note it.
    """
    found = error.errors(include_url=False, include_input=False)
    header = [each for each in found if each["loc"][:1] and each["loc"][0] in _HEADER]
    # A document of another kind has other fields: only its kind is of interest then.
    for each in header or found:
        context = each.get("ctx", {})
        loc = tuple(step for step in each["loc"] if step != _OF_KEY)
        loc += tuple(context.get("at", ()))
        what, fix, of_name = _explained(each["type"], loc, context, document, model)
        problems.add(document.place(*loc, of_name=of_name or each["loc"][-1:] == (_OF_KEY,)), what, fix)


def _explained(
    kind: str, loc: tuple[str | int, ...], context: dict[str, Any], document: Document, model: type[BaseModel]
) -> tuple[str, str | None, bool]:
    """Return what is wrong, the fix, and whether the place is that of the field's name."""
    data = document.node(loc).data
    subject = _subject(loc)
    match kind:
        case _ if kind == WRONG:
            what = context["what"] if context["whole"] else f"{subject} {context['what']}"
            return what, context["fix"], False
        case "extra_forbidden":
            names = _names(_model_at(model, loc[:-1]))
            near = nearest(str(loc[-1]), names)
            fix = f"did you mean {near}?" if near else f"fields: {', '.join(names)}"
            if not near and len(names) > _MOST_NAMES:
                fix = "phasesync schema describes the fields that may stand here"
            return f"unknown field {_shown(loc[-1])}", fix, True
        case "missing":
            return f"{loc[-1]} is missing", f"write {loc[-1]}:", False
        case "string_type":
            what, fix = not_text(data) or ("is not text", QUOTES)
            return f"{subject} {what}", fix, False
        case "int_type" | "int_parsing":
            return f"{subject} {_kind(data)}, and a whole number is expected", "write a number without quotes", False
        case "greater_than_equal":
            return f"{subject} is {data}", f"write {context['ge']} or more", False
        case "less_than_equal":
            return f"{subject} is {data}", f"write {context['le']} or less", False
        case "tuple_type" | "list_type":
            fix = (
                "write [] if there are none, or leave it out" if data is None else "write [ONE, TWO], or - before each"
            )
            return f"{subject} {_kind(data)}, and a list is expected", fix, False
        case "bool_type":
            return f"{subject} {_kind(data)}, and true or false is expected", "write true or false", False
        case "dict_type" | "model_type" | "model_attributes_type":
            return *_no_mapping(subject, data, _model_at(model, loc)), False
        case _:
            return f"{subject} is not valid", None, False


def _no_mapping(subject: str, data: Any, model: type[BaseModel] | None) -> tuple[str, str]:
    short = model is not None and issubclass(model, Short)
    if short and data is not None and (refused := not_text(data)) is not None:
        return f"{subject} {refused[0]}", refused[1]
    fix = "leave it out" if data is None else "write fields, such as name: NAME"
    if model is None:
        fix = "leave it out" if data is None else "write NAME: TEXT"
    return f"{subject} {_kind(data)}, and a mapping is expected", fix


def _kind(data: object) -> str:
    match data:
        case None:
            return "is empty"
        case bool():
            return "is true or false"
        case str():
            return "is a text"
        case list():
            return "is a list"
        case dict():
            return "is a mapping"
        case Unquoted(what=what):
            return f"is {what}"
        case _:
            return "is a number"


def _subject(loc: tuple[str | int, ...]) -> str:
    """Return what a message is about: a field, a member of it, or an entry of a list."""
    if not loc:
        return "the document"
    *before, last = loc
    if isinstance(last, int):
        return f"entry {last + 1} of {_subject(tuple(before))}"
    if before and before[-1] in _MAPPINGS:
        return f"{before[-1]}.{last}"
    return last


_MAPPINGS: Final = ("tags", "replicas", "key_map", "secret_access_key", "values", "to", "signing_secret")


def _shown(name: str | int) -> str:
    return repr(str(name)[:60])


def _names(model: type[BaseModel] | None) -> list[str]:
    if model is None:
        return []
    return [field.alias or name for name, field in model.model_fields.items()]


def _model_at(model: type[BaseModel], loc: tuple[str | int, ...]) -> type[BaseModel] | None:
    """Return the model of a part of a document, None if it has none."""
    at: type[BaseModel] | None = model
    for step in loc:
        if isinstance(step, int) or at is None:
            continue
        field = next((each for name, each in at.model_fields.items() if step in (name, each.alias)), None)
        at = None if field is None else next(_models_in(field.annotation), None)
    return at


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models_in(argument)
