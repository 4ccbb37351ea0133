"""The specifications and the code say the same: every type, field, code, limit and answer, in both directions."""

from __future__ import annotations

import ast
import inspect
import itertools
import json
import re
from typing import Any, get_args

import msgspec
import pytest

from auth_service.accounts import OPERATION_US
from restante.wire import auth_link, codec, envelopes, limits, store_link
from restante.wire.errors import CODES
from tests.protocol.spec import (
    Row,
    field_rows,
    limit_values,
    plain,
    requirements,
    rows,
    section,
    spell,
    tables,
    text_of,
    wire_fields,
)
from tests.protocol.vectors import SCHEMAS, from_json

PROTOCOL = text_of("protocol.md")
LINKS = text_of("links.md")


def tag_of(kind: type[msgspec.Struct]) -> str:
    tag = kind.__struct_config__.tag
    return str(tag) if tag is not None else kind.__name__


def by_tag(*unions: Any) -> dict[str, type[msgspec.Struct]]:
    return {tag_of(kind): kind for union in unions for kind in get_args(union)}


MAPS = (
    envelopes.Limits, envelopes.TokenInfo, envelopes.ApartResult, envelopes.Result, envelopes.Entry,
    envelopes.MessageStatus, envelopes.RecipientState,
)  # fmt: skip
CLIENT_TYPES = by_tag(envelopes.ToBroker, envelopes.ToClient) | {kind.__name__: kind for kind in MAPS}
AUTH_TYPES = by_tag(auth_link.ToWorker, auth_link.FromWorker, auth_link.Question, auth_link.Outcome)
STORE_TYPES = by_tag(
    store_link.ToStore, store_link.FromStore, store_link.Command, store_link.Outcome, store_link.Query,
    store_link.Reading,
) | {"Apart": store_link.Apart}  # fmt: skip

AUTH_TEXT, STORE_TEXT = section(LINKS, "1. AUTH/1"), section(LINKS, "2. STORE/1")
DOCUMENTED = [
    pytest.param(text, types, id=name)
    for name, text, types in (
        ("CHAT/1", PROTOCOL, CLIENT_TYPES),
        ("AUTH/1", AUTH_TEXT, AUTH_TYPES),
        ("STORE/1", STORE_TEXT, STORE_TYPES),
    )
]


# --- types and fields -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "types"), DOCUMENTED)
def test_every_type_has_a_table_and_every_table_a_type(text: str, types: dict[str, Any]) -> None:
    assert sorted(tables(text)) == sorted(types)


@pytest.mark.parametrize(("text", "types"), DOCUMENTED)
def test_every_table_has_the_fields_types_limits_and_defaults_of_the_code(text: str, types: dict[str, Any]) -> None:
    shown = tables(text)
    assert shown == {name: wire_fields(kind) for name, kind in types.items()}


def test_a_table_that_is_wrong_would_be_noticed() -> None:
    text = section(PROTOCOL, "7. Sending")
    for old, new in (("bin 16", "bin 15"), ("`stream`", "`steam`"), ("| `0` |", "| `1` |"), ("1…1000", "1…1001")):
        assert old in text
        assert tables(text.replace(old, new)) != tables(text)


def test_types_are_spelled_as_the_tables_say() -> None:
    class Sample(msgspec.Struct):
        some: list[bytes] | None = None
        how: dict[str, int] = {}
        plain: str = ""

    assert [row.type for row in wire_fields(Sample) if row.name != "some"] == ["map of str to int", "str"]
    assert spell(msgspec.inspect.type_info(envelopes.State)) == "delivered / read / stored"


@pytest.mark.parametrize("name", CLIENT_TYPES)
def test_a_heading_tells_direction_and_kind(name: str) -> None:
    kind = CLIENT_TYPES[name]
    found = re.search(rf"^#### `{name}` \((.*)\)$", PROTOCOL, re.MULTILINE)
    assert found is not None
    if kind in MAPS:
        assert found[1] == "a map inside"
        return
    way = "client → broker" if kind in get_args(envelopes.ToBroker) else "broker → client"
    what = "request" if issubclass(kind, envelopes.Request) else "answer"
    is_notice = not issubclass(kind, envelopes.Request | envelopes.Answer)
    assert found[1] == f"{'notice' if is_notice else what}, {way}"


# --- requests and answers ---------------------------------------------------------------------------------


def docstring_table() -> list[list[str]]:
    """The rows of the table that opens `envelopes`: request, answer, and whether it needs a login."""
    lines = (envelopes.__doc__ or "").partition("    notice  ")[0].splitlines()
    found = [re.split(r"\s{2,}", line.strip()) for line in lines if re.match(r"    [a-z]+\s{2,}[a-z_]+", line)]
    return [row for row in found if row[:2] != ["request", "answer"]]


def test_the_table_of_answers_is_the_one_in_the_code() -> None:
    listed = [[plain(row[0]), plain(row[1])] for row in rows(section(PROTOCOL, "Requests, answers, notices"))]
    requests = [row for row in listed if row[1] in by_tag(envelopes.ToClient)]
    assert requests == [row[:2] for row in docstring_table()]
    assert {row[0] for row in requests} == {
        name for name, kind in by_tag(envelopes.ToBroker).items() if issubclass(kind, envelopes.Request)
    }


def test_the_table_of_answers_says_who_needs_a_login() -> None:
    free = {tag_of(kind) for kind in envelopes.NEEDS_NO_ACCOUNT}
    for row in rows(section(PROTOCOL, "Requests, answers, notices")):
        if len(row) == 5:
            assert (row[4] == "a login") is (plain(row[0]) not in free), row


def test_the_table_of_bodies_is_the_code_s() -> None:
    """What lists messages has contents, and nothing else."""
    for row in rows(section(PROTOCOL, "Requests, answers, notices")):
        for name, body in ((row[0], row[2]), (row[1], row[3] if len(row) > 3 else "–")):
            kind = CLIENT_TYPES.get(plain(name))
            if kind is not None:
                listed = [
                    field
                    for field in wire_fields(kind)
                    if field.name == "sizes" or field.type.startswith("list of Entry")
                ]
                assert (body == "contents") is bool(listed), name


def test_every_notice_is_in_the_table_of_notices() -> None:
    notices = {plain(row[0]) for row in rows(section(PROTOCOL, "Requests, answers, notices")) if len(row) == 3}
    kinds = by_tag(envelopes.ToBroker, envelopes.ToClient)
    assert notices == {n for n, k in kinds.items() if not issubclass(k, envelopes.Request | envelopes.Answer)}


def test_the_links_tables_of_outcomes_are_the_code_s() -> None:
    for name, outcome, refusals in (map(plain, row) for row in rows(section(LINKS, "Questions")) if len(row) == 3):
        doc = inspect.getdoc(AUTH_TYPES[name]) or ""
        told = re.findall(r"`(\w+)`", doc.split("A retry")[0])
        assert tag_of(getattr(auth_link, told[0])) == outcome
        assert [code for code in told if code in CODES] == [code for code in refusals.split(", ") if code != "–"]


# --- codes and limits -------------------------------------------------------------------------------------


def test_the_table_of_codes_is_the_code_s() -> None:
    shown = {plain(row[0]): row[1:] for row in rows(section(PROTOCOL, "9. Errors")) if plain(row[0]) in CODES}
    yes = {True: "yes", False: "no"}
    assert shown == {name: [yes[row.passes], yes[row.fatal], row.meaning] for name, row in CODES.items()}
    assert list(shown) == list(CODES)


def test_no_code_is_mentioned_that_there_is_not() -> None:
    words = set(re.findall(r"`([a-z]+(?:_[a-z]+)+)`", PROTOCOL + LINKS))
    fields = {row.name for kind in (CLIENT_TYPES | AUTH_TYPES | STORE_TYPES).values() for row in wire_fields(kind)}
    known = set(CODES) | set(CLIENT_TYPES) | set(AUTH_TYPES) | set(STORE_TYPES) | fields
    defs = {"envelopes_schema", "links_schema"}
    assert words - known - defs == set()


def test_every_limit_is_in_a_table_and_has_its_value() -> None:
    listed = rows(section(PROTOCOL, "11. Limits")) + rows(section(LINKS, "3. Limits"))
    shown = {plain(row[0]): plain(row[1]) for row in listed}
    assert shown == limit_values()


def test_every_limit_stands_with_the_reason_that_the_code_gives() -> None:
    body = ast.parse(inspect.getsource(limits)).body
    reasons = {
        name.target.id: " ".join(text.value.value.split())
        for name, text in itertools.pairwise(body)
        if isinstance(name, ast.AnnAssign) and isinstance(name.target, ast.Name)
        if isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant) and isinstance(text.value.value, str)
    }
    listed = rows(section(PROTOCOL, "11. Limits")) + rows(section(LINKS, "3. Limits"))
    assert {plain(row[0]): row[-1] for row in listed} == reasons


def test_every_limit_that_welcome_tells_stands_by_its_name_among_those_to_know() -> None:
    listed = rows(section(PROTOCOL, "What a client must know"))
    told = {plain(row[2]): row[1].replace(",", "") for row in listed}
    assert {row.name: row.default for row in field_rows(section(PROTOCOL, "`Limits`"))}.items() <= told.items()


def test_the_table_of_what_a_client_does_names_every_code_that_it_must_not_treat_as_final() -> None:
    listed = rows(section(PROTOCOL, "What it does about errors"))
    named = set(re.findall(r"`(\w+)`", " ".join(row[0] for row in listed))) & set(CODES)
    assert named >= {name for name, row in CODES.items() if row.fatal} | {"gap", "internal", "history_changed"}
    assert len(listed) == 12


def test_operations_are_remembered_as_long_as_is_said() -> None:
    assert f"remembers for at least {OPERATION_US // 3_600_000_000} h" in PROTOCOL


def test_no_document_refers_to_a_list_that_is_not_there() -> None:
    for path in SCHEMAS.glob("*.*"):
        assert re.findall(r"RULES|DESIGN", path.read_text("utf-8")) == [], path


def test_the_limits_that_welcome_tells_are_those_of_the_code() -> None:
    told = {row.name: row.default for row in field_rows(section(PROTOCOL, "`Limits`"))}
    assert told["credit_messages"] == str(limits.CREDIT_MESSAGES_MAX)
    assert set(told) == set(re.findall(r"`limits\.(\w+)`", PROTOCOL)) | {
        "header_bytes", "messages_per_send", "recipients_per_message", "page_messages", "acks_per_request",
    }  # fmt: skip


def test_numbers_in_the_text_are_limits() -> None:
    """A number with a thousands' mark or seconds, outside of tables and examples, is some limit's value."""
    prose = "\n".join(line for line in PROTOCOL.splitlines() if not line.startswith(("|", "#", " ", "C:", "B:")))
    values = set(limit_values().values()) | {"10 s", "50,000"}
    numbers = set(re.findall(r"\b\d{1,3}(?:,\d{3})+\b", prose))
    assert numbers - values == set()
    assert numbers >= {"1,048,576", "9,437,184"}


# --- requirements -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", [PROTOCOL, LINKS])
def test_a_tag_names_one_requirement(text: str) -> None:
    tags = requirements(text)
    assert len(tags) == len(set(tags)) > 20


@pytest.mark.parametrize("text", [PROTOCOL, LINKS])
def test_every_must_has_a_tag(text: str) -> None:
    untagged = [
        paragraph
        for paragraph in re.split(r"\n\s*\n", text)
        if re.search(r"\bMUST\b", paragraph) and not re.match(r"\*\*\[[A-Z]+\d+\]\*\*", paragraph)
    ]
    allowed = ("The key words",)
    assert [paragraph for paragraph in untagged if not paragraph.startswith(allowed)] == []


@pytest.mark.parametrize("text", [PROTOCOL, LINKS])
def test_every_tag_that_is_referred_to_exists(text: str) -> None:
    tags = set(requirements(PROTOCOL)) | set(requirements(LINKS))
    assert set(re.findall(r"\[([A-Z]+\d+)\]", text)) <= tags


# --- the worked example -----------------------------------------------------------------------------------


def example() -> list[tuple[str, list[bytes], dict[str, Any]]]:
    lines = section(PROTOCOL, "A worked example").splitlines()
    found = []
    for line, meaning in itertools.pairwise(lines):
        if line.startswith(("C: ", "B: ")):
            frames = [b"" if part == "-" else bytes.fromhex(part) for part in line[3:].split(" | ")]
            found.append((line[0], frames, from_json(json.loads(meaning))))
    return found


def test_the_example_means_what_it_says() -> None:
    steps = example()
    assert [header["type"] for _, _, header in steps] == [
        "hello", "welcome", "login", "session", "send", "sent", "fetch", "page", "ack", "acked", "send", "error",
    ]  # fmt: skip
    for side, frames, meaning in steps:
        reader: codec.Reader[Any] = codec.from_client if side == "C" else codec.from_broker
        header, body = reader.read(frames)
        assert codec.client_frames(header, body) == frames
        assert msgspec.to_builtins(header, builtin_types=(bytes,)) == meaning


def test_the_example_shows_the_limits_of_today() -> None:
    """So that whoever reads it gets what a server says."""
    welcome = next(header for _, _, header in example() if header["type"] == "welcome")
    assert welcome["limits"] == msgspec.to_builtins(envelopes.Limits())


def test_rows_are_named_tuples_of_three() -> None:
    assert field_rows("| field | type | default | meaning |\n|---|---|---|---|\n| `a` | bool | `false` | x |") == [
        Row("a", "bool", "false")
    ]
