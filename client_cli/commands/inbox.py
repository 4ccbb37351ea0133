"""`chat inbox`: what is unread, oldest first; what a person was shown is marked read.

Marked is only what was written and flushed, into a regular file only what was synced; when nobody reads our output any
more, nothing further is marked, and the exit is not 0 (RULES 24). Programs (`--json`, `--format`, `--raw`) mark nothing
unless they say `--ack`: a reader that dies must see its messages again.
"""

from __future__ import annotations

import errno
import re
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final, NamedTuple

import click

from client_cli import exits
from client_cli.lastmarked import LastMarked
from client_cli.marking import mark_of, were
from client_cli.options import ChatCommand, Options, is_colourful, options_of
from client_cli.output import CantWrite, Output
from client_cli.render import count, escape_line, json_line, message_for_people, message_record

if TYPE_CHECKING:
    from restante.client import Client
    from restante.messages import Message

MARKED_AT_ONCE: Final = 100
"""Messages marked in one request. More would be shown twice after a crash; fewer would cost a request each."""

FIELDS: Final = ("id", "seq", "from", "to", "body", "content_type", "sent_at", "stored_at", "state", "reply_to")
"""What a --format may name."""

_FIELD: Final = re.compile(r"\{(\w*)\}")
_ESCAPES: Final = {r"\n": "\n", r"\t": "\t", r"\0": "\0", r"\\": "\\"}

Show = Callable[["Message"], str | bytes]


class Marker:
    """Marks what was shown, and notes it for `chat unread --last`."""

    def __init__(self, client: Client, output: Output, last: LastMarked, *, at_once: int) -> None:
        self._client = client
        self._output = output
        self._last = last
        self._at_once = at_once
        self._shown: list[int] = []
        self.marked = 0

    def shown(self, message: Message) -> None:
        """Take in a message that was written and flushed; mark when there are enough."""
        if message.state != "read":
            self._shown.append(message.seq)
        if len(self._shown) >= self._at_once:
            self.mark()

    def mark(self) -> None:
        """Mark what was shown since the last time. Raises OSError, ChatError: then it stays unread."""
        if not self._shown:
            return
        self._output.settle()
        try:
            self._last.note(self._shown)
        except OSError as error:
            click.echo(f"chat: `chat unread --last` will not know of this: {error.strerror}", err=True)
        self._client.ack(self._shown)
        self.marked += len(self._shown)
        self._shown = []


@click.command(
    "inbox",
    cls=ChatCommand,
    epilog="""\b
Examples:
  chat inbox
  chat inbox --all --from bob --limit 20
  chat inbox --json --ack | jq -r .body
  chat inbox --format '{from}: {body}'
  chat inbox --follow --json          # for ever; Ctrl-C ends it
  chat inbox --wait 60                # exit 6 if nothing came in a minute
  chat inbox --id 01970a5e-8c1f-7cc3-98c4-dc0c0c07398f --raw >photo.png
""",
)
@click.option("--peek", is_flag=True, default=False, help="Mark nothing, not even as delivered.")
@click.option("--ack", "ack", is_flag=True, default=False, help="Mark read, where programs are the readers.")
@click.option("--all", "all_", is_flag=True, default=False, help="What was read too.")
@click.option("--from", "sender", metavar="NAME", default="", help="Only from this sender.")
@click.option("--id", "mark", metavar="ID", default=None, help="This message alone, by id or seq, also if it was read.")
@click.option("--limit", metavar="N", type=click.IntRange(min=1), default=None, help="At most so many messages.")
@click.option("-f", "--follow", is_flag=True, default=False, help="Go on with what arrives.")
@click.option(
    "--wait",
    "wait_s",
    metavar="SECONDS",
    type=click.FloatRange(min=0),
    default=None,
    help="Where there is none, wait so long for one.",
)
@click.option(
    "--format",
    "form",
    metavar="TEXT",
    default=None,
    help=f"A line each, with {{{'}, {'.join(FIELDS)}}}; control characters in them are escaped.",
)
@click.option("--raw", is_flag=True, default=False, help="The contents alone, byte for byte, with nothing between.")
@click.pass_context
def command(
    ctx: click.Context,
    peek: bool,
    ack: bool,
    all_: bool,
    sender: str,
    mark: str | None,
    limit: int | None,
    follow: bool,
    wait_s: float | None,
    form: str | None,
    raw: bool,
) -> int:
    """Show what is unread, oldest first, and mark it read.

    With --json, --format or --raw nothing is marked read without --ack. What was marked last can be taken back:
    chat unread --last
    """
    options = options_of(ctx)
    if peek and ack:
        raise click.UsageError("--peek marks nothing and --ack marks: give one of them.")
    if peek and (follow or wait_s is not None):
        raise click.UsageError("Waiting for what arrives marks it as delivered, and --peek marks nothing: give one.")
    if sum((options.json, form is not None, raw)) > 1:
        raise click.UsageError("--json, --format and --raw are three forms of the same: give one of them.")
    if mark is not None and (sender or follow or wait_s is not None or limit is not None):
        raise click.UsageError("--id names one message: --from, --limit, --follow and --wait don't go with it.")
    one = None if mark is None else mark_of(mark)
    for_people = not (options.json or raw or form is not None)
    settings = options.settings()
    output = Output()
    show = _show(options, form, raw, settings.name)
    with options.connect() as client:
        if follow:
            client.on_connection(Connection(options))
        marker = None
        if ack or (for_people and not peek):
            # A follower may wait for hours after each message: what it showed is marked at once.
            at_once = 1 if follow else MARKED_AT_ONCE
            marker = Marker(client, output, LastMarked(settings), at_once=at_once)
        waits = follow or wait_s is not None
        if sender and waits:
            _check_sender(client, sender)
        if one is not None:
            messages = _the_one(client, one)
        else:
            messages = _arriving(client, Wanted(not all_, sender, limit, peek), follow, wait_s)
        shown = _show_all(messages, show, output, marker)
        if sender and not shown and not waits:
            _check_sender(client, sender)
    if not shown and one is not None:
        raise exits.Failure(f"This mailbox holds no message {mark}", exits.Advice(exits.REFUSED, "", ""), "unknown")
    _say_what_was(options, shown, 0 if marker is None else marker.marked, all_)
    return exits.NOTHING_CAME if not shown and wait_s is not None else exits.DONE


class Connection:
    """Says that a follower's connection is lost, and that there is one again: silence would look like no mail."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._lost = False

    def __call__(self, there: bool) -> None:
        if not there:
            self._lost = True
            self._options.say("The connection to the server is lost; trying again …")
        elif self._lost:
            self._lost = False
            self._options.say("The server is back; nothing that came meanwhile is missed.")


def _show_all(messages: Iterator[Message], show: Show, output: Output, marker: Marker | None) -> int:
    """Write the messages, and mark those that were; how many. Raises Failure if the output takes no more."""
    shown = 0
    try:
        for message in messages:
            output.write(show(message))
            shown += 1
            if marker is not None:
                marker.shown(message)
        if marker is not None:
            marker.mark()
    except CantWrite as error:
        if marker is None and error.errno == errno.EPIPE:
            raise  # `| head`: nobody needs to be told
        marked = 0 if marker is None else marker.marked
        data = "Nothing was marked read."
        if marked:
            data = f"{count(marked, 'message')} shown before that {were(marked)} marked read, and no other."
        text = f"The output could not be written: {error.reason}"
        raise exits.Failure(text, exits.Advice(exits.REFUSED, data, ""), "os_error") from None
    return shown


def _the_one(client: Client, mark: int | bytes) -> Iterator[Message]:
    """The message of a seq or an id, if the mailbox holds it. What is looked at on the way isn't marked delivered."""
    if isinstance(mark, int):
        found = client.fetch(max(0, mark - 1), limit=1, unread=False, peek=True).messages
        yield from (message for message in found if message.seq == mark)
        return
    for message in client.inbox(unread=False, peek=True):
        if message.id == mark:
            yield message
            return


def _check_sender(client: Client, sender: str) -> None:
    """Where nothing of a sender's was found, or is waited for, see that there is one. Raises Failure, ChatError."""
    if not client.lookup([sender]):
        advice = exits.Advice(exits.REFUSED, "", "Check the name.")
        raise exits.Failure(f"No account is named {sender!r}", advice, "unknown_sender")


class Wanted(NamedTuple):
    """Which messages."""

    unread: bool
    sender: str
    limit: int | None
    peek: bool


def _arriving(client: Client, wanted: Wanted, follow: bool, wait_s: float | None) -> Iterator[Message]:
    """What is there, and with `follow` what arrives; with `wait_s` alone, where nothing is there, the first to come."""
    if follow:
        yield from client.inbox(follow=True, wait_s=wait_s, **wanted._asdict())
        return
    first = next(there := client.inbox(**wanted._asdict()), None)
    if first is not None:
        yield first
        yield from there
    elif wait_s is not None:
        yield from client.inbox(follow=True, wait_s=wait_s, **wanted._replace(limit=1)._asdict())


def _show(options: Options, form: str | None, raw: bool, me: str) -> Show:
    """How a message is to look."""
    if raw:
        return lambda message: message.body
    if options.json:
        return lambda message: json_line(message_record(message))
    if form is not None:
        return _formatter(form)
    colour = is_colourful(sys.stdout)
    chat = options.chat
    return lambda message: message_for_people(message, me=me, colour=colour, chat=chat)


def _formatter(form: str) -> Show:
    unknown = [name for name in _FIELD.findall(form) if name not in FIELDS]
    if unknown:
        raise click.UsageError(f"--format knows no {{{unknown[0]}}}. It knows: {', '.join(FIELDS)}.")
    form = re.sub(r"\\[nt0\\]", lambda found: _ESCAPES[found[0]], form) + "\n"

    def show(message: Message) -> str:
        record = message_record(message)
        record["to"] = ",".join(record["to"])
        record.setdefault("body", record.get("body_base64", ""))
        # What stands in a field is the sender's: it may not end the line, nor begin another column.
        return _FIELD.sub(lambda found: escape_line(str(record.get(found[1]) or "")), form)

    return show


def _say_what_was(options: Options, shown: int, marked: int, all_: bool) -> None:
    if not shown:
        options.say("Nothing there." if all_ else "Nothing unread.")
    elif marked:
        options.say(f"{count(marked, 'message')} marked read; to take that back: {options.chat} unread --last")
