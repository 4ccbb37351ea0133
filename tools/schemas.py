"""Writes the JSON Schemas of every envelope from the types in `restante/wire`, or checks what is there.

    python tools/schemas.py            writes schemas/envelopes.schema.json and schemas/links.schema.json
    python tools/schemas.py --check    writes nothing; exits 1 with the difference if the types say otherwise

The types are the source. What the schemas add is a way to say bytes in JSON, the one of the vectors:
`{"$bytes": "0a0b"}`, in lower-case hex (schemas/README.md). An envelope stands in `$defs` under its `type`,
a map inside one under its name in Python.
"""

from __future__ import annotations

import argparse
import difflib
import inspect
import json
import sys
from pathlib import Path
from typing import Any, get_args

import msgspec

from restante.wire import auth_link, envelopes, limits, store_link

FOLDER = Path(__file__).resolve().parent.parent / "schemas"
DRAFT = "https://json-schema.org/draft/2020-12/schema"

# msgspec speaks of the length of base64; these are the only sizes of bytes that the types know.
_BASE64_CHARS = {4 * ((size + 2) // 3): size for size in (limits.ID_BYTES, limits.TOKEN_BYTES)}

_PYTHONS_OWN = ("title", "discriminator")

Json = Any
"""JSON as Python holds it."""


def definitions(unions: dict[str, Any], prefix: str = "") -> dict[str, Json]:
    """The `$defs` of some unions of headers, of the unions themselves, and of all that they hold."""
    members = {name: get_args(union) for name, union in unions.items()}
    every = tuple(dict.fromkeys(member for union in members.values() for member in union))
    _, components = msgspec.json.schema_components(every, ref_template="#/$defs/{name}")
    names = {name: prefix + _name_on_the_wire(name, schema) for name, schema in components.items()}
    refs = {f"#/$defs/{old}": f"#/$defs/{new}" for old, new in names.items()}
    found = {names[name]: _adapted(schema, refs) for name, schema in sorted(components.items())}
    for name, union in members.items():
        refs_of = [{"$ref": refs[f"#/$defs/{member.__name__}"]} for member in union]
        found[prefix + name] = {"oneOf": refs_of}
    return found


def _name_on_the_wire(name: str, schema: Json) -> str:
    tag: list[str] = schema.get("properties", {}).get("type", {}).get("enum", [])
    return tag[0] if len(tag) == 1 else name


def _adapted(schema: Json, refs: dict[str, str]) -> Json:
    """A schema in this project's words: bytes as `{"$bytes": hex}`, references renamed, no Python."""
    if isinstance(schema, list):
        return [_adapted(part, refs) for part in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("contentEncoding") == "base64":
        said = {"description": schema["description"]} if "description" in schema else {}
        return {"$ref": f"#/$defs/bytes{_BASE64_CHARS[schema['minLength']]}", **said}
    parts = {key: _adapted(part, refs) for key, part in schema.items() if key not in _PYTHONS_OWN}
    if isinstance(parts.get("description"), str):
        parts["description"] = inspect.cleandoc(parts["description"])
    if "$ref" in parts:
        parts["$ref"] = refs[parts["$ref"]]
    return parts


def _bytes(size: int) -> Json:
    return {
        "description": f"{size} bytes, in lower-case hex.",
        "type": "object",
        "properties": {"$bytes": {"type": "string", "pattern": f"^([0-9a-f]{{2}}){{{size}}}$"}},
        "required": ["$bytes"],
        "additionalProperties": False,
    }


def _schema(name: str, title: str, description: str, directions: list[str], found: dict[str, Json]) -> Json:
    sizes = {f"bytes{size}": _bytes(size) for size in (limits.ID_BYTES, limits.TOKEN_BYTES)}
    return {
        "$schema": DRAFT,
        "$id": f"urn:restante:{name}",
        "title": title,
        "description": description,
        "anyOf": [{"$ref": f"#/$defs/{direction}"} for direction in directions],
        "$defs": found | sizes,
    }


def envelopes_schema() -> Json:
    """The schema of every header of CHAT/1."""
    return _schema(
        "chat-1",
        "Restante CHAT/1: the headers of every envelope between a client and the broker",
        "protocol.md is the specification; README.md says how bytes are written. Unknown keys are ignored.",
        ["to_broker", "to_client"],
        definitions({"to_broker": envelopes.ToBroker, "to_client": envelopes.ToClient}),
    )


def links_schema() -> Json:
    """The schema of every header of AUTH/1 and STORE/1."""
    auth = definitions(
        {
            "to_worker": auth_link.ToWorker,
            "from_worker": auth_link.FromWorker,
            "question": auth_link.Question,
            "outcome": auth_link.Outcome,
        },
        "auth_",
    )
    store = definitions(
        {
            "to_store": store_link.ToStore,
            "from_store": store_link.FromStore,
            "command": store_link.Command,
            "outcome": store_link.Outcome,
            "query": store_link.Query,
            "reading": store_link.Reading,
        },
        "store_",
    )
    return _schema(
        "links-1",
        "Restante AUTH/1 and STORE/1: the headers of every envelope between the broker and its workers",
        "links.md is the specification; README.md says how bytes are written. Unknown keys are ignored.",
        ["auth_to_worker", "auth_from_worker", "store_to_store", "store_from_store"],
        auth | store,
    )


def files() -> dict[Path, str]:
    """What each file must hold."""
    schemas = {"envelopes.schema.json": envelopes_schema(), "links.schema.json": links_schema()}
    return {FOLDER / name: json.dumps(schema, indent=2, ensure_ascii=False) + "\n" for name, schema in schemas.items()}


def difference(path: Path, wanted: str) -> str:
    """What would have to change in a file, as a unified diff; empty if nothing."""
    held = path.read_text("utf-8") if path.exists() else ""
    lines = difflib.unified_diff(
        held.splitlines(keepends=True),
        wanted.splitlines(keepends=True),
        f"schemas/{path.name}",
        f"schemas/{path.name}, from the types",
    )
    return "".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Write, or check; the exit code."""
    parser = argparse.ArgumentParser(description="Write the JSON Schemas from the types in restante/wire.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if the files differ")
    check = parser.parse_args(arguments).check
    differences = {path: difference(path, wanted) for path, wanted in files().items()}
    if not check:
        for path, wanted in files().items():
            path.write_text(wanted, "utf-8")
        return 0
    sys.stdout.write("".join(differences.values()))
    if any(differences.values()):
        print("schemas/ is not what the types say: run `make schemas`.", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
