"""What `chat ack` and `chat unread` share: which messages are meant, and what became of them."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Final

import click

from client_cli import exits
from client_cli.options import Options
from client_cli.output import Output
from client_cli.render import count, json_line
from client_cli.stdin import stdin
from restante.wire.ids import read_id, show_id

if TYPE_CHECKING:
    from client_cli.lastmarked import LastMarked

SEQ_DIGITS_MAX: Final = 19
"""A number with no more digits is a seq; a UUID without its dashes has 32."""


def named(words: Iterable[str]) -> Iterator[int | bytes]:
    """The messages that words name: an id, a seq, or `-` for those on stdin, a line each. Raises click.UsageError."""
    for word in words:
        if word == "-":
            yield from (mark_of(line.decode("utf-8", "replace").strip()) for line in stdin() if line.strip())
        else:
            yield mark_of(word)


def mark_of(word: str) -> int | bytes:
    """The message that a word names, by seq or by id. Raises click.UsageError."""
    if word.isascii() and word.isdigit() and len(word) <= SEQ_DIGITS_MAX:
        return int(word)
    try:
        return read_id(word)
    except ValueError:
        raise click.UsageError(f"{word!r} is neither a message's id nor its seq. Nothing was marked.") from None


def mark(options: Options, marks: Sequence[int | bytes], *, read: bool, last: LastMarked | None = None) -> int:
    """Mark messages read or unread, and say so; the exit code.

    Raises OSError, ChatError; what was marked before stays so, and repeating it is harmless.
    """
    if last is not None:
        last.note([one for one in marks if isinstance(one, int)], [one for one in marks if isinstance(one, bytes)])
    with options.connect() as client:
        acked = client.ack(marks, read=read)
    unknown = [str(seq) for seq in acked.unknown_seqs] + [show_id(one) for one in acked.unknown_ids]
    return _report(options, len(marks), acked.changed, unknown, read)


def _report(options: Options, asked: int, changed: int, unknown: list[str], read: bool) -> int:
    if options.json:
        Output().write(json_line({"changed": changed, "unknown": unknown}))
    for one in itertools.islice(unknown, 100):
        click.echo(f"chat: This mailbox holds no message {one}.", err=True)
    state = "read" if read else "unread"
    was = asked - len(unknown) - changed
    before = f", {was:,} {were(was)} so before" if was > 0 else ""
    options.say(f"{count(changed, 'message')} marked {state}{before}.")
    if not unknown:
        return exits.DONE
    return exits.REFUSED if len(unknown) == asked else exits.PARTLY


def were(number: int) -> str:
    """`1 was`, `2 were`."""
    return "was" if number == 1 else "were"
