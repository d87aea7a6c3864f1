"""Writes documents as YAML that `read_projects` reads back: text that YAML might take for something else is quoted."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import yaml

from phasesync.adapters.project_files.scalars import scalar


class _Dumper(yaml.SafeDumper):
    """Writes what every reader of YAML reads alike."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> Any:
        return super().increase_indent(flow, False)  # Entries of a list stand further in than its name.

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = None if isinstance(scalar(text), str) else "'"
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)


def write_yaml(documents: Iterable[Mapping[str, Any]]) -> str:
    """Return documents as one YAML stream."""
    return yaml.dump_all(
        documents,
        Dumper=_Dumper,
        sort_keys=False,
        allow_unicode=True,
        explicit_start=True,
        width=110,
    )


def write_json(documents: Sequence[Mapping[str, Any]]) -> str:
    """Return documents as one JSON document: the only one, or a list of all."""
    whole = documents[0] if len(documents) == 1 else {"items": list(documents), "next": None}
    return json.dumps(whole, indent=2, ensure_ascii=False) + "\n"
