"""From a client's messages to the store's command: names become account numbers, or a refusal.

Pure, and without a call for each message as long as nothing is out of the ordinary: most envelopes are hundreds of
messages to one known account each, and such a message costs a place in some lists.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from restante.wire import limits, store_link
from restante.wire.envelopes import Item, Send
from restante.wire.names import fold, is_name

STRANGERS_NAMED_MAX: Final = 10
"""Unknown recipients named in a refusal: enough for a typing mistake or two, and its text stays a sentence."""

Accounts = Mapping[str, int]
"""Account numbers, from 1, by name."""


def addressed(
    sender: int, sender_name: str, request: Send, known: Accounts, found: Accounts
) -> store_link.StoreMessages:
    """The command for a client's envelope. A recipient is in `known`, was just `found`, or doesn't exist."""
    single = request.single
    to = single or [request.message(place).to[0] for place in range(len(request.to))]
    numbers: list[int | None] = list(map(known.get, to))
    apart: list[store_link.Apart] = []
    sizes_fit = min(request.sizes) > 0 and max(request.sizes) <= limits.MESSAGE_BYTES_MAX
    if not (single and sizes_fit and all(numbers) and not request.reply_to):
        for place, number in enumerate(numbers):
            item = request.message(place)
            if number is None or len(item.to) > 1 or item.reply_to is not None or _bad_size(item):
                apart.append(_apart(place, item, known, found))
                numbers[place] = 0
    return store_link.StoreMessages(
        sender=sender,
        sender_name=sender_name,
        ids=request.ids,
        to=to,
        mailboxes=numbers,  # type: ignore[arg-type]  # what was None is apart
        sizes=request.sizes,
        sent_at_us=request.sent_at_us or [0] * len(request.ids),
        content_types=request.content_types,
        apart=apart,
    )


def _apart(place: int, item: Item, known: Accounts, found: Accounts) -> store_link.Apart:
    """Any message: its names are folded and stand once."""
    to = list(dict.fromkeys([fold(name) for name in item.to]))
    mailboxes = [number for name in to if (number := known.get(name) or found.get(name))]
    refusal = _bad_size(item)
    if refusal is None and len(mailboxes) < len(to):
        refusal = _bad_recipients([name for name in to if name not in known and name not in found])
    code, text = refusal or ("", "")
    return store_link.Apart(
        place=place,
        to=to,
        mailboxes=[] if refusal else mailboxes,
        reply_to=item.reply_to,
        refusal=code,
        refusal_text=text,
    )


def _bad_size(item: Item) -> tuple[str, str] | None:
    if item.size == 0:
        return "empty_body", "the message has no content"
    if item.size > limits.MESSAGE_BYTES_MAX:
        return "body_too_large", f"the message has {item.size} bytes, the limit is {limits.MESSAGE_BYTES_MAX}"
    return None


def _bad_recipients(names: list[str]) -> tuple[str, str]:
    """Why these can't be sent to: all of them are named, so that one look at the list is enough to mend it."""
    for name in names:
        if not is_name(name):
            return "bad_name", f"{name!r} is not a name: 2 to 32 of a-z 0-9 . _ - beginning with a letter or digit"
    told = ", ".join(map(repr, names[:STRANGERS_NAMED_MAX]))
    more = len(names) - STRANGERS_NAMED_MAX
    return "unknown_recipient", f"no account is named {told}" + (f", nor {more} others" if more > 0 else "")
