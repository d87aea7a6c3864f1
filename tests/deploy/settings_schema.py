"""
The chart's schema of `settings`, which follows from the settings themselves.

    python -m tests.deploy.settings_schema      # writes it anew into values.schema.json
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from phasesync.settings.model import Settings

FILE = Path(__file__).parents[2] / "deploy" / "helm" / "phasesync" / "values.schema.json"
FIXED = frozenset({"data_dir", "database_url", "root_key_file", "root_key", "http.listen"})
"""What the other values of the chart decide."""


def settings_schema() -> dict[str, Any]:
    """Return the JSON schema of everything that can be set through the chart."""
    whole = Settings.model_json_schema()
    return _table(whole, whole["$defs"], "")


def _table(model: dict[str, Any], groups: dict[str, Any], prefix: str) -> dict[str, Any]:
    fields = {}
    for name, field in model["properties"].items():
        if prefix + name in FIXED:
            continue
        if "$ref" in field:
            inner = _table(groups[field["$ref"].rpartition("/")[2]], groups, f"{prefix}{name}.")
            if inner["properties"]:
                fields[name] = inner
        else:
            fields[name] = {
                key: value for key, value in field.items() if key not in ("title", "description", "default")
            }
    return {"type": "object", "additionalProperties": False, "properties": fields}


def main() -> None:
    """Write it."""
    schema = json.loads(FILE.read_text())
    schema["properties"]["settings"] = settings_schema()
    FILE.write_text(json.dumps(schema, indent=2) + "\n")


if __name__ == "__main__":
    main()
