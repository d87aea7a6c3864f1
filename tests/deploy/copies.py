"""
What the manifests and the chart repeat, from where it is written once: the alerts, and the schema of the settings.

    make manifests      writes the copies anew; tests compare them
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from phasesync.settings.model import Settings

DEPLOY = Path(__file__).parents[2] / "deploy"
RULES = DEPLOY / "prometheus" / "phasesync.rules.yaml"
CHART_RULES = DEPLOY / "helm" / "phasesync" / "files" / RULES.name
COMPONENT_RULES = DEPLOY / "kubernetes" / "components" / "prometheus-rule" / "rules.yaml"
SCHEMA = DEPLOY / "helm" / "phasesync" / "values.schema.json"

FIXED = frozenset(
    {
        "data_dir",
        "database_url",
        "root_key_file",
        "root_key",
        "root_key_kms_key",
        "root_key_kms_key_next",
        "http.listen",
    }
)
"""Settings that the other values of the chart decide."""

_HEAD = """\
# Written by `make manifests`.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: phasesync
  labels:
    app.kubernetes.io/name: phasesync
spec:
"""


def component_rules() -> str:
    """Return the rules as an object of Kubernetes."""
    lines = RULES.read_text().splitlines()
    return _HEAD + "".join(f"  {line}".rstrip() + "\n" for line in lines)


def settings_schema() -> dict[str, Any]:
    """Return the JSON schema of everything that can be set through the chart: what is fixed or secret cannot."""
    whole = Settings.model_json_schema()
    return _table(whole, whole["$defs"], "")


def _table(model: dict[str, Any], groups: dict[str, Any], prefix: str) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for name, field in model["properties"].items():
        if prefix + name in FIXED:
            continue
        if "$ref" in field:
            inner = _table(groups[field["$ref"].rpartition("/")[2]], groups, f"{prefix}{name}.")
            if inner["properties"]:
                fields[name] = inner
        elif (one := _field(field)) is not None:
            fields[name] = one
    return {"type": "object", "additionalProperties": False, "properties": fields}


def _field(field: dict[str, Any]) -> dict[str, Any] | None:
    """Return the schema of one setting, without what is no check; None for a secret one."""
    choices = field.get("anyOf", [field])
    (choice,) = [each for each in choices if each.get("type") != "null"]
    if choice.get("format") == "password":
        return None
    kept = {key: value for key, value in choice.items() if key not in ("title", "description", "default", "format")}
    # A message about one of several schemas would not say what is wrong.
    return kept if len(choices) == 1 else kept | {"type": [kept["type"], "null"]}


def main() -> None:
    """Write the copies."""
    CHART_RULES.write_bytes(RULES.read_bytes())
    COMPONENT_RULES.write_text(component_rules())
    schema = json.loads(SCHEMA.read_text())
    schema["properties"]["settings"] = settings_schema()
    SCHEMA.write_text(json.dumps(schema, indent=2) + "\n")


if __name__ == "__main__":
    main()
