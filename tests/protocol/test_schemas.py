"""The JSON Schemas are the types', take every meaning of the vectors, and refuse what is malformed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgpack
import pytest
from jsonschema import Draft202012Validator

from restante.wire import auth_link, envelopes
from tests.protocol.vectors import SCHEMAS, Vector, frames_of, to_json
from tests.protocol.vectors import envelopes as all_vectors
from tools import schemas

DIRECTIONS = {
    "client→broker": ("envelopes", "to_broker"),
    "broker→client": ("envelopes", "to_client"),
    "broker→auth": ("links", "auth_to_worker"),
    "auth→broker": ("links", "auth_from_worker"),
    "broker→store": ("links", "store_to_store"),
    "store→broker": ("links", "store_from_store"),
}

# JSON Schema calls 1.0 an integer, which on the wire is a float, and refused; and compares no two lists ([M11]).
COLUMNS = ("to", "sizes", "content_types", "sent_at_us", "reply_to")
BEYOND_JSON_SCHEMA = {"an id that is a float", *(f"one message with two values in {column}" for column in COLUMNS)}


def published(name: str) -> dict[str, Any]:
    schema: dict[str, Any] = json.loads((SCHEMAS / f"{name}.schema.json").read_text("utf-8"))
    return schema


def one_direction(direction: str) -> Draft202012Validator:
    name, definition = DIRECTIONS[direction]
    return Draft202012Validator({"$ref": f"#/$defs/{definition}", "$defs": published(name)["$defs"]})


VALIDATORS = {direction: one_direction(direction) for direction in DIRECTIONS}


@pytest.mark.parametrize("name", ["envelopes", "links"])
def test_a_schema_is_a_schema(name: str) -> None:
    schema = published(name)
    Draft202012Validator.check_schema(schema)
    text = json.dumps(schema)
    assert "base64" not in text
    assert "restante_wire" not in text


def test_the_files_are_what_the_types_say() -> None:
    assert schemas.main(["--check"]) == 0


def test_check_shows_the_difference_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(schemas, "FOLDER", tmp_path)
    assert schemas.main([]) == 0
    assert schemas.main(["--check"]) == 0
    path = tmp_path / "envelopes.schema.json"
    old = path.read_text("utf-8").replace("An account's name.", "Somebody's name.")
    path.write_text(old, "utf-8")
    assert schemas.main(["--check"]) == 1
    told = capsys.readouterr()
    assert '+          "description": "An account\'s name."' in told.out
    assert "make schemas" in told.err
    assert path.read_text("utf-8") == old


def test_a_union_without_some_member_gives_another_schema() -> None:
    """Else the comparison with the types could not fail."""
    fewer = schemas.definitions({"to_broker": envelopes.Ping | envelopes.Hello})
    assert fewer["to_broker"] == {"oneOf": [{"$ref": "#/$defs/ping"}, {"$ref": "#/$defs/hello"}]}
    assert "ask" not in fewer
    assert "auth_ask" in schemas.definitions({"to_worker": auth_link.ToWorker}, "auth_")


@pytest.mark.parametrize("vector", [pytest.param(v, id=name) for name, v in all_vectors() if "meaning" in v])
def test_every_meaning_is_valid(vector: Vector) -> None:
    VALIDATORS[vector["direction"]].validate(vector["meaning"]["header"])


def header_in_json(vector: Vector) -> Any:
    """The header of a malformed vector as JSON, or None where it is none."""
    frames = frames_of(vector)
    if len(frames) < 2 or vector["error"]["code"] in ("unsupported_version", "too_large"):
        return None
    try:
        raw = msgpack.unpackb(frames[1])
    except ValueError:
        return None
    if isinstance(raw, dict) and not all(isinstance(key, str) for key in raw):
        return None
    return to_json(raw)


MISSHAPEN = [
    pytest.param(vector, id=name)
    for name, vector in all_vectors()
    if vector.get("error", {}).get("code") in ("bad_request", "unknown_type")
    and header_in_json(vector) is not None
    and vector["name"] not in BEYOND_JSON_SCHEMA
]


@pytest.mark.parametrize("vector", MISSHAPEN)
def test_every_misshapen_header_is_refused(vector: Vector) -> None:
    assert not VALIDATORS[vector["direction"]].is_valid(header_in_json(vector))


def test_there_is_something_to_refuse() -> None:
    assert len(MISSHAPEN) > 40


def test_bytes_are_hex_of_the_right_length() -> None:
    validator = VALIDATORS["client→broker"]
    for token, fine in (("00" * 32, True), ("00" * 31, False), ("0G" * 32, False), ("AA" * 32, False)):
        assert validator.is_valid({"type": "resume", "id": 1, "token": {"$bytes": token}}) is fine
    assert not validator.is_valid({"type": "resume", "id": 1, "token": "00" * 32})
