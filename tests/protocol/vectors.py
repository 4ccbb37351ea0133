"""Reads schemas/vectors as another implementation would: with json and hex, and no type of ours."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

SCHEMAS = Path(__file__).parents[2] / "schemas"

ENVELOPE_TOPICS = (
    "session", "sending", "reading", "errors", "leniency", "malformed", "auth_link", "store_link",
)  # fmt: skip

Vector = dict[str, Any]


def load(topic: str) -> list[Vector]:
    """The vectors of one file."""
    vectors: list[Vector] = json.loads((SCHEMAS / "vectors" / f"{topic}.json").read_text("utf-8"))
    return vectors


def envelopes() -> list[tuple[str, Vector]]:
    """Every vector of frames, with a name for pytest."""
    return [(f"{topic}: {vector['name']}", vector) for topic in ENVELOPE_TOPICS for vector in load(topic)]


def frames_of(vector: Vector) -> list[bytes]:
    """A vector's frames as they travel."""
    return [_frame(frame) for frame in vector["frames"]]


def _frame(frame: str | list[Any]) -> bytes:
    if isinstance(frame, str):
        return bytes.fromhex(frame)
    return b"".join(
        bytes.fromhex(part) if isinstance(part, str) else bytes.fromhex(part["repeat"]) * part["times"]
        for part in frame
    )


def from_json(value: Any) -> Any:
    """JSON as msgpack would have it: `{"$bytes": hex}` becomes bytes."""
    if isinstance(value, dict):
        if value.keys() == {"$bytes"}:
            return bytes.fromhex(value["$bytes"])
        return {key: from_json(part) for key, part in value.items()}
    if isinstance(value, list):
        return [from_json(part) for part in value]
    return value


def to_json(value: Any) -> Any:
    """The reverse of `from_json`."""
    if isinstance(value, bytes):
        return {"$bytes": value.hex()}
    if isinstance(value, dict):
        return {key: to_json(part) for key, part in value.items()}
    if isinstance(value, list):
        return [to_json(part) for part in value]
    return value
