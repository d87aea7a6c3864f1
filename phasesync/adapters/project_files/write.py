"""Writes documents as YAML that `yaml.py`, and every other program, reads as it was."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

import yaml

from phasesync.adapters.project_files.scalars import scalar

_DUMPER: Final[Any] = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


class _Dumper(_DUMPER):  # type: ignore[misc]
    """Quotes what some program would not read as text, and repeats in place of anchors."""

    def ignore_aliases(self, _: Any) -> bool:
        return True


def _text(dumper: Any, text: str) -> Any:
    style = None if isinstance(scalar(text), str) else '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)


def write_yaml(documents: Iterable[Mapping[str, Any]]) -> str:
    """
    Return documents as block YAML, each member in the order that it has.

    Args:
        documents: mappings of texts, numbers, true and false, None, lists and mappings.
    """
    text: str = yaml.dump_all(
        documents, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=1_000, default_flow_style=False
    )
    return text
