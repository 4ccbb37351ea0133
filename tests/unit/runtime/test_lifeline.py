"""Notes for the supervisor: whole lines, and never a reason to fail."""

import json
import os

import pytest

from runtime.lifeline import NOTE_BYTES_MAX, Notifier


def test_a_note_is_one_line_of_json() -> None:
    reader, writer = os.pipe()
    Notifier(writer).note(ready=True, endpoint="tcp://127.0.0.1:5571")
    assert json.loads(os.read(reader, 4096)) == {"ready": True, "endpoint": "tcp://127.0.0.1:5571"}
    os.close(reader)
    os.close(writer)


def test_without_a_supervisor_notes_go_nowhere() -> None:
    Notifier(None).note(ready=True)


def test_a_supervisor_that_is_gone_or_reads_nothing_is_no_error() -> None:
    reader, writer = os.pipe()
    notifier = Notifier(writer)
    for _ in range(40):
        notifier.note(text="x" * 4_000)  # more than the pipe holds
    os.close(reader)
    notifier.note(ready=True)
    os.close(writer)


def test_a_note_that_could_be_torn_is_refused() -> None:
    with pytest.raises(ValueError, match="at most"):
        Notifier(None).note(text="x" * NOTE_BYTES_MAX)
