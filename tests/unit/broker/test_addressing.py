"""Messages find their mailboxes, or their refusals."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from broker.addressing import addressed
from restante.wire import limits
from restante.wire.envelopes import TEXT, Item, Send
from restante.wire.store_link import Message, StoreMessages

KNOWN, FOUND = {"bob": 1, "eve": 2}, {"dan": 3}

NAMES = st.sampled_from(["bob", "Bob", "eve", "dan", "nobody", "no name", "ß"])
ITEMS = st.builds(
    Item,
    id=st.binary(min_size=16, max_size=16),
    to=st.lists(NAMES, min_size=1, max_size=3),
    size=st.sampled_from([0, 1, 256, limits.MESSAGE_BYTES_MAX, limits.MESSAGE_BYTES_MAX + 1]),
    content_type=st.sampled_from([TEXT, "image/png"]),
    sent_at_us=st.integers(0, 9),
    reply_to=st.none() | st.binary(min_size=16, max_size=16),
)
PLAIN = st.builds(
    Item,
    id=st.binary(min_size=16, max_size=16),
    to=st.sampled_from([["bob"], ["eve"]]),
    size=st.sampled_from([1, limits.MESSAGE_BYTES_MAX]),
)
ANSWERS = st.builds(Item, id=st.just(bytes(16)), to=st.just(["bob"]), size=st.just(1), reply_to=st.just(b"r" * 16))


def command_of(*items: Item) -> StoreMessages:
    return addressed(7, "ann", Send.of(1, bytes(16), 1, items), KNOWN, FOUND)


def expected(item: Item) -> Message:
    """What the store is to be told of a message."""
    to = list(dict.fromkeys(name.lower() for name in item.to))
    mailboxes = [number for name in to if (number := (KNOWN | FOUND).get(name))]
    refusal = ""
    if item.size == 0:
        refusal = "empty_body"
    elif item.size > limits.MESSAGE_BYTES_MAX:
        refusal = "body_too_large"
    elif {"no name", "ß"} & set(to):
        refusal = "bad_name"
    elif "nobody" in to:
        refusal = "unknown_recipient"
    return Message(
        id=item.id,
        to=to,
        mailboxes=[] if refusal else mailboxes,
        size=item.size,
        content_type=item.content_type,
        sent_at_us=item.sent_at_us,
        reply_to=item.reply_to,
        refusal=refusal,
        refusal_text=command_of(item).messages[0].refusal_text,
    )


@given(st.lists(ITEMS | PLAIN, min_size=1, max_size=6) | st.lists(PLAIN | ANSWERS, min_size=1, max_size=6))
def test_a_message_among_others_is_what_it_is_alone(items: list[Item]) -> None:
    assert command_of(*items).messages == [expected(item) for item in items]


@given(st.lists(PLAIN, min_size=1, max_size=6))
def test_nothing_is_said_apart_of_plain_messages(items: list[Item]) -> None:
    command = command_of(*items)
    assert command.apart == []
    assert command.content_types == []


def test_a_refusal_names_its_strangers_and_gives_no_mailbox() -> None:
    (message,) = command_of(Item(id=bytes(16), to=["bob", "nobody", "Noone"], size=1)).messages
    assert message.mailboxes == []
    assert message.refusal_text == "no account is named 'nobody', 'noone'"
