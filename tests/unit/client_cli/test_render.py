"""What people see can't drive their terminal; what programs get is all there is."""

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client_cli import render
from tests.unit.client_cli.fake import NOW_US, message


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("a\tb\nc", "a\tb\nc"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("ding\x07", "ding\\x07"),
        ("over\rwritten", "over\\rwritten"),
        ("\x9b2J", "\\x9b2J"),
        ("abc\u202edcba", "abc\\u202edcba"),
        ("a\u2028b", "a\\u2028b"),
        ("żółć 😀 👩‍👩‍👧", "żółć 😀 👩‍👩‍👧"),
    ],
)
def test_control_characters_and_bidi_marks_are_escaped(raw: str, shown: str) -> None:
    assert render.escape(raw) == shown


@given(st.text())
def test_whatever_is_escaped_is_harmless(text: str) -> None:
    shown = render.escape(text)
    assert not any(ord(one) < 32 and one not in "\n\t" for one in shown)
    assert not set(shown) & set("\x7f\x80\x9b\u202a\u202e\u2066\u2069\u200e\u200f\u061c")
    assert render.escape(shown) == shown


@given(st.dictionaries(st.text(), st.text()))
def test_json_is_one_harmless_line_that_reads_back(record: dict[str, str]) -> None:
    line = render.json_line(record)
    assert json.loads(line) == record
    assert not any(ord(one) < 32 for one in line[:-1])
    assert not set(line) & set("\x7f\x9b\u202e\u2066\u2028")
    assert line.endswith("\n")


def test_a_record_has_what_the_issue_names() -> None:
    record = render.message_record(message(3, b"caf\xc3\xa9"))
    assert record == {
        "id": "00000000-0000-0000-0000-000000000003",
        "seq": 3,
        "from": "alice",
        "to": ["bob"],
        "body": "café",
        "sent_at": "2026-09-21T14:13:19.123456Z",
        "stored_at": "2026-09-21T14:13:20.123456Z",
        "state": "stored",
        "content_type": "text/plain; charset=utf-8",
    }


@pytest.mark.parametrize(
    ("body", "content_type"),
    [(b"caf\xe9", "application/octet-stream"), (b"hello", "application/octet-stream"), (b"caf\xe9", "text/plain")],
)
def test_what_is_no_text_is_base64(body: bytes, content_type: str) -> None:
    record = render.message_record(message(3, body, content_type=content_type))
    assert "body" not in record
    assert base64.b64decode(record["body_base64"]) == body


def test_json_content_is_text() -> None:
    assert render.message_record(message(3, b"{}", content_type="application/json"))["body"] == "{}"


def test_an_answer_names_what_it_answers() -> None:
    assert render.message_record(message(3, reply_to=bytes(15) + b"\1"))["reply_to"].endswith("0001")


def test_a_body_cannot_pretend_to_be_the_next_head() -> None:
    shown = render.message_for_people(message(3, b"hi\n\neve  2026-01-01 00:00:00  x\n  gotcha"))
    head, *rest = shown.split("\n")
    assert head.startswith("alice")
    assert all(line == "" or line.startswith("  ") for line in rest)


def test_a_head_names_the_other_recipients() -> None:
    shown = render.message_for_people(message(3, to=["bob", "eve"]), me="bob")
    assert shown.startswith("alice → you, eve  ")
    assert render.message_for_people(message(3, to=["bob"]), me="bob").startswith("alice  ")
    assert render.message_for_people(message(3, to=["bob"])).startswith("alice  ")


def test_a_line_end_of_the_senders_shows_nothing() -> None:
    assert "\n  one\n  two\n\n" in render.message_for_people(message(3, b"one\r\ntwo\n"))


def test_bytes_are_not_thrown_at_people() -> None:
    shown = render.message_for_people(message(3, b"\xff" * 2000, content_type="image/\x1bpng"))
    assert "2,000 bytes of image/\\x1bpng" in shown


@pytest.mark.parametrize(("colour", "begins"), [(True, "\x1b[1malice\x1b[0m"), (False, "alice ")])
def test_colour_is_for_those_who_have_it(colour: bool, begins: str) -> None:
    assert render.message_for_people(message(3), colour=colour).startswith(begins)


@pytest.mark.parametrize(("time_us", "text"), [(0, None), (NOW_US, "2026-09-21T14:13:20.123456Z")])
def test_times_are_iso_8601_in_utc(time_us: int, text: str | None) -> None:
    assert render.iso_time(time_us) == text


@pytest.mark.parametrize(("number", "text"), [(1, "1 message"), (2_000, "2,000 messages")])
def test_numbers_agree(number: int, text: Any) -> None:
    assert render.count(number, "message") == text
