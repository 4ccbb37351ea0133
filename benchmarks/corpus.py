"""Messages that people really wrote to each other: the two-person conversations of `chitchat-dataset`.

4,018 conversations, 243,046 messages, 1,196 people, who are known by random ids alone; an account's name is the first
characters of its person's. 33 of the messages are empty: somebody pressed return. A message without content is refused
by Restante, so these are sent as what was pressed, one newline.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

CONVERSATIONS: Final = 4_018
MESSAGES: Final = 243_046
PEOPLE: Final = 1_196

NAME_CHARS: Final = 8
"""Of a person's id: enough to tell these people apart, as a test says."""

EMPTY: Final = "\n"
"""What an empty message is sent as."""


class Written(NamedTuple):
    """A message as its writer wrote it."""

    writer: str
    reader: str
    body: str


class Conversation(NamedTuple):
    """What two people wrote to each other, in the order in which they did."""

    messages: list[Written]

    @property
    def people(self) -> set[str]:
        return {message.writer for message in self.messages}


def conversations(count: int | None = None) -> Iterator[Conversation]:
    """The data set's two-person conversations in its order, or the first `count`."""
    import chitchat_dataset

    path = Path(chitchat_dataset.__file__).with_name("dataset.json")
    found = 0
    for entry in json.loads(path.read_bytes()).values():
        said = [(one["sender"][:NAME_CHARS], one["text"]) for turn in entry["messages"] for one in turn]
        people = sorted({writer for writer, _ in said})
        if len(people) != 2:
            continue  # the other one never said anything
        if found == count:
            return
        found += 1
        other = {people[0]: people[1], people[1]: people[0]}
        yield Conversation([Written(writer, other[writer], text or EMPTY) for writer, text in said])


def people_of(some: Iterable[Conversation]) -> list[str]:
    """Everybody in the conversations, in the order in which they first wrote."""
    return list(dict.fromkeys(message.writer for one in some for message in one.messages))


def by_writer(some: Iterable[Conversation]) -> dict[str, list[Written]]:
    """What each person wrote, in order."""
    written: dict[str, list[Written]] = {}
    for one in some:
        for message in one.messages:
            written.setdefault(message.writer, []).append(message)
    return written


def by_reader(some: Iterable[Conversation]) -> dict[str, dict[str, list[str]]]:
    """What was written to each person, by writer, in order: what their mailbox has to hold."""
    mailboxes: dict[str, dict[str, list[str]]] = {}
    for one in some:
        for message in one.messages:
            mailboxes.setdefault(message.reader, {}).setdefault(message.writer, []).append(message.body)
    return mailboxes
