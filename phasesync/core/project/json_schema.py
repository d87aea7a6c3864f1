"""The JSON Schema of a project, from which editors complete and check documents."""

from typing import Any, Final

from phasesync.core.project.kinds import Project

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"


def schema() -> dict[str, Any]:
    """
    Return the JSON Schema of one document, in the dialect 2020-12.

    It describes the form only. What depends on other parts of a project, such as names that have to exist, and the
    forms of names, ARNs and Regions are checked when a document is read.
    """
    described = Project.model_json_schema(by_alias=True, mode="validation")
    return {"$schema": DIALECT, **_without_titles_of_fields(described)}


def _without_titles_of_fields(described: dict[str, Any]) -> dict[str, Any]:
    """Return a schema without pydantic's titles of fields: they repeat the fields' names."""
    for model in (described, *described.get("$defs", {}).values()):
        for alternative in (model, *model.get("anyOf", ())):
            for each in alternative.get("properties", {}).values():
                each.pop("title", None)
    return described
