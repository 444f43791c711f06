"""The schemas of report.json, and whether a content is what one says."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from helpers import ROOT

jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed (extra dev)")


def schema_of(name: str) -> dict[str, Any]:
    """As it is in the documentation."""
    path = ROOT / f"docs/reference/{name}.schema.json"
    return json.loads(path.read_text(encoding="utf-8"))


def errors(content: object, schema: dict) -> list[str]:
    return [error.message for error in jsonschema.Draft202012Validator(schema).iter_errors(content)]


def keys(schema: dict, path: str = "") -> dict[str, dict]:
    """Every object of a schema that lists its keys or their beginnings, by where it is."""
    lists = ("properties", "patternProperties")
    found = {f"{path} {kind}": schema[kind] for kind in lists if kind in schema}
    for name, inner in schema.items():
        if isinstance(inner, dict):
            found |= keys(inner, f"{path}/{name}")
    for i, inner in enumerate(schema.get("oneOf", ())):
        found |= keys(inner, f"{path}/oneOf/{i}")
    return found


def unused(content: object, schema: dict) -> list[str]:
    """The keys without which the schema would still allow the content: nobody has them."""
    return [
        f"{key} of {place}"
        for place, properties in keys(schema).items()
        for key in properties
        if errors(content, _without(schema, place, key)) == []
    ]


def _without(schema: dict, place: str, key: str) -> dict:
    other = copy.deepcopy(schema)
    del keys(other)[place][key]
    return other


def is_closed(schema: dict) -> bool:
    """Whether objects that list their keys allow no others, and require only what they list."""
    listed = schema.get("properties")
    if isinstance(listed, dict) and (
        schema.get("additionalProperties") is not False
        or not set(schema.get("required", ())) <= set(listed)
    ):
        return False
    return all(is_closed(inner) for inner in schema.values() if isinstance(inner, dict))


def undescribed(schema: dict, path: str = "") -> list[str]:
    """The keys that no description says what they are."""
    found = []
    for kind in ("properties", "patternProperties"):
        listed = schema.get(kind, {})
        found += [f"{path}.{k}" for k, v in listed.items() if "description" not in v]
    for name, inner in schema.items():
        if isinstance(inner, dict):
            found += undescribed(inner, f"{path}/{name}")
    return found
