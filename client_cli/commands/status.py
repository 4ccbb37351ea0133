"""`chat status`: who am I and what is unread; or how far messages that I sent have come."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from client_cli import exits
from client_cli.options import ChatCommand, Options, options_of
from client_cli.output import Output
from client_cli.render import count, escape, iso_time, json_line, local_time
from restante.wire.ids import read_id, show_id

if TYPE_CHECKING:
    from restante.wire.envelopes import MessageStatus


@click.command(
    "status",
    cls=ChatCommand,
    epilog="""\b
Examples:
  chat status
  chat status 01970a5e-8c1f-7cc3-98c4-dc0c0c07398f
  chat status --json "$(chat send bob hi)"
""",
)
@click.argument("ids", nargs=-1, metavar="[ID…]")
@click.pass_context
def command(ctx: click.Context, ids: tuple[str, ...]) -> int:
    """Without an id: account, server, and how much is unread. With ids: how far each has come, by recipient.

    Only a message's sender may ask. Exit 1 says that this account has sent no message with that id.
    """
    options = options_of(ctx)
    return _messages(options, [_id(text) for text in ids]) if ids else _overview(options)


def _id(text: str) -> bytes:
    try:
        return read_id(text)
    except ValueError:
        raise click.UsageError(f"{text!r} is not a message's id.") from None


def _overview(options: Options) -> int:
    with options.connect() as client:
        account = client.overview()
        address = str(client.address)
    if options.json:
        record = {
            "account": account.account,
            "name": account.name,
            "server": address,
            "unread": account.unread,
            "total": account.total,
        }
        Output().write(json_line(record))
    else:
        lines = (
            f"account  {account.name}",
            f"server   {address}",
            f"unread   {account.unread:,} of {count(account.total, 'message')}",
        )
        Output().write("\n".join(lines) + "\n")
    return exits.DONE


def _messages(options: Options, ids: list[bytes]) -> int:
    output = Output()
    missing = 0
    with options.connect() as client:
        for status in client.status(ids):
            missing += not status.seq
            if options.json:
                output.write(json_line(_record(status)))
            elif status.seq:
                output.write(_for_people(status))
            else:
                click.echo(f"chat: This account has sent no message with the id {show_id(status.id)}.", err=True)
    if not missing:
        return exits.DONE
    return exits.REFUSED if missing == len(ids) else exits.PARTLY


def _record(status: MessageStatus) -> dict[str, Any]:
    recipients = [
        {"name": one.name, "state": one.state, "state_at": iso_time(one.state_at_us)} for one in status.recipients
    ]
    return {
        "id": show_id(status.id),
        "seq": status.seq or None,
        "stored_at": iso_time(status.stored_at_us),
        "recipients": recipients,
    }


def _for_people(status: MessageStatus) -> str:
    lines = [f"{show_id(status.id)}  stored {local_time(status.stored_at_us)}"]
    for one in status.recipients:
        since = f" {local_time(one.state_at_us)}" if one.state_at_us and one.state != "stored" else ""
        lines.append(f"  {escape(one.name)}: {one.state}{since}")
    return "\n".join(lines) + "\n"
