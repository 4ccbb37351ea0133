"""Every vector decodes to its meaning or its error, and Restante writes the canonical ones byte for byte."""

from __future__ import annotations

from collections import Counter
from typing import Any, get_args

import msgpack
import msgspec
import pytest

from restante.wire import auth_link, codec, envelopes, links, store_link
from restante.wire.errors import CODES, RemoteProtocolError
from tests.protocol.vectors import ENVELOPE_TOPICS, Vector, frames_of, from_json, load
from tests.protocol.vectors import envelopes as all_vectors
from tools.vectors.__main__ import FOLDER, TOPICS

READERS: dict[str, codec.Reader[Any]] = {
    "client→broker": codec.from_client,
    "broker→client": codec.from_broker,
    "broker→auth": links.to_auth_worker,
    "auth→broker": links.from_auth_worker,
    "broker→store": links.to_store,
    "store→broker": links.from_store,
}

UNIONS: dict[str, Any] = {
    "client→broker": envelopes.ToBroker,
    "broker→client": envelopes.ToClient,
    "broker→auth": auth_link.ToWorker,
    "auth→broker": auth_link.FromWorker,
    "broker→store": store_link.ToStore,
    "store→broker": store_link.FromStore,
}

MEANINGFUL = [(name, vector) for name, vector in all_vectors() if "meaning" in vector]
GOOD = [pytest.param(vector, id=name) for name, vector in MEANINGFUL]
CANONICAL = [pytest.param(vector, id=name) for name, vector in MEANINGFUL if vector.get("canonical", True)]
BAD = [pytest.param(vector, id=name) for name, vector in all_vectors() if "error" in vector]


def meaning_of(header: msgspec.Struct) -> dict[str, Any]:
    plain: dict[str, Any] = msgspec.to_builtins(header, builtin_types=(bytes,))
    return plain


def says(raw: Any, wanted: Any) -> bool:
    """Whether all that is wanted is there, whatever else there is."""
    if isinstance(wanted, dict):
        return all(key in raw and says(raw[key], value) for key, value in wanted.items())
    if isinstance(wanted, list):
        return len(raw) == len(wanted) and all(map(says, raw, wanted))
    return bool(raw == wanted)


@pytest.mark.parametrize("vector", GOOD)
def test_frames_decode_to_their_meaning(vector: Vector) -> None:
    header, body = READERS[vector["direction"]].read(frames_of(vector))
    wanted = from_json(vector["meaning"])
    assert meaning_of(header) == wanted["header"]
    assert body == wanted["body"]


@pytest.mark.parametrize("vector", CANONICAL)
def test_a_meaning_encodes_to_its_frames(vector: Vector) -> None:
    wanted = from_json(vector["meaning"])
    header = msgspec.convert(wanted["header"], UNIONS[vector["direction"]], builtin_types=(bytes,))
    frames = frames_of(vector)
    if frames[0] == b"AUTH/1":
        assert links.auth_frames(header) == frames
    elif frames[0] == b"STORE/1":
        assert links.store_frames(header, wanted["body"]) == frames
    else:
        assert codec.client_frames(header, wanted["body"]) == frames


@pytest.mark.parametrize("vector", GOOD)
def test_a_meaning_is_what_plain_msgpack_reads(vector: Vector) -> None:
    """So the vectors hold for whoever has a msgpack library and none of our types."""
    raw = msgpack.unpackb(frames_of(vector)[1], strict_map_key=False)
    wanted = from_json(vector["meaning"])["header"]
    assert says(raw, wanted)
    if vector.get("canonical", True):
        assert raw == wanted


@pytest.mark.parametrize("vector", BAD)
def test_what_is_no_envelope_gives_its_error(vector: Vector) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        READERS[vector["direction"]].read(frames_of(vector))
    wanted = vector["error"]
    assert (caught.value.code, caught.value.request_id) == (wanted["code"], wanted.get("request_id"))
    assert wanted["code"] in CODES
    assert 0 < len(caught.value.text) <= 500


@pytest.mark.parametrize("direction", UNIONS)
def test_every_type_has_a_vector_with_every_field(direction: str) -> None:
    shown: dict[str, set[str]] = {}
    for _, vector in MEANINGFUL:
        if vector["direction"] == direction:
            header = vector["meaning"]["header"]
            shown.setdefault(header["type"], {"type"}).update(header)
    for kind in get_args(UNIONS[direction]):
        wanted = {field.encode_name for field in msgspec.structs.fields(kind)} | {"type"}
        assert shown.get(kind.__struct_config__.tag) == wanted


@pytest.mark.parametrize(
    ("union", "under"),
    [
        (auth_link.Question, "question"),
        (auth_link.Outcome, "outcome"),
        (store_link.Command, "commands"),
        (store_link.Outcome, "outcomes"),
        (store_link.Query, "query"),
        (store_link.Reading, "reading"),
    ],
)
def test_every_part_of_the_links_has_a_vector_with_every_field(union: Any, under: str) -> None:
    shown: dict[str, set[str]] = {}
    for vector in load("auth_link") + load("store_link"):
        found = vector.get("meaning", {"header": {}})["header"].get(under, [])
        for part in found if isinstance(found, list) else [found]:
            shown.setdefault(part["type"], set()).update(part)
    for kind in get_args(union):
        wanted = {field.encode_name for field in msgspec.structs.fields(kind)} | {"type"}
        assert shown.get(kind.__struct_config__.tag) == wanted


def test_every_kind_of_bad_input_has_a_vector() -> None:
    codes = Counter(vector["error"]["code"] for vector in load("malformed"))
    assert set(codes) == {"bad_frame", "unsupported_version", "too_large", "unknown_type", "bad_request"}


@pytest.mark.parametrize("topic", [*ENVELOPE_TOPICS, "ids", "addresses"])
def test_names_are_unique_in_a_file(topic: str) -> None:
    assert [name for name, times in Counter(v["name"] for v in load(topic)).items() if times > 1] == []


@pytest.mark.parametrize("topic", TOPICS)
def test_the_script_would_add_nothing_and_has_forgotten_nothing(topic: str) -> None:
    """A vector is made once; what the script would make today is what it made then."""
    assert list(TOPICS[topic]()) == load(topic)


def test_every_file_of_vectors_is_tested() -> None:
    assert {path.stem for path in FOLDER.glob("*.json")} == {*ENVELOPE_TOPICS, "ids", "addresses"}
