"""Messages by columns: `send` and `sent`, where what is said of a message stands at its place in each list.

Nearly all messages are to one recipient and simply stored. Hundreds of them are a few lists, and no object each: that
is a fifth of the time to read (`docs/decisions/`, 0012). Who looks at one alone has it as an `Item`, or a `Result`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, cast

from msgspec import Meta, Struct, field

from restante.wire import limits
from restante.wire.fields import TEXT, Answer, ContentType, Count, Id16, Name, NotNegative, Request, Seq, Text, TimeUs

# What comes by the hundred thousand and can be part of no cycle is kept from the collector (gc=False): to look through
# it was a tenth of what a message cost a client.


class Item(Struct, frozen=True, kw_only=True, gc=False):
    """One message of a `send`. It travels as a place in the columns of that."""

    id: bytes
    to: list[str]
    size: int
    """Bytes of its content in the body."""
    content_type: str = TEXT
    sent_at_us: int = 0
    reply_to: bytes | None = None


Recipients = Name | Annotated[list[Name], Meta(min_length=1, max_length=limits.RECIPIENTS_PER_MESSAGE_MAX)]
"""One name, or several."""


class Send(Request, frozen=True, omit_defaults=True, kw_only=True, tag="send"):
    """Store messages, told by columns: what is said of a message stands at its place in each. The n-th envelope of a
    stream, from any first n a session begins with, without a gap.
    """

    stream: Id16
    n: Annotated[int, Meta(ge=1, le=2**53 - 1)]
    ids: Annotated[list[Id16], Meta(min_length=1, max_length=limits.MESSAGES_PER_SEND_MAX)]
    to: list[Recipients]
    sizes: Annotated[list[NotNegative], Meta(description="Bytes of the contents in the body.")]
    content_types: Annotated[list[ContentType], Meta(description="Empty, if all are the default.")] = field(
        default_factory=list
    )
    sent_at_us: Annotated[list[TimeUs], Meta(description="The sender's own clock; part of no decision.")] = field(
        default_factory=list
    )
    reply_to: Annotated[list[Id16 | None], Meta(description="The messages that these answer; empty, if none does.")] = (
        field(default_factory=list)
    )

    def __post_init__(self) -> None:
        """Raise ValueError unless the columns are of one length."""
        messages = len(self.ids)
        if not messages == len(self.to) == len(self.sizes):
            raise ValueError(f"{messages} ids, {len(self.to)} recipients and {len(self.sizes)} sizes")
        optional = len(self.content_types), len(self.sent_at_us), len(self.reply_to)
        if not {0, messages}.issuperset(optional):
            raise ValueError(f"{messages} messages, but {optional} content types, times and messages answered")

    @classmethod
    def of(cls, request_id: int, stream: bytes, n: int, items: Sequence[Item]) -> Send:
        """Return the columns of some messages."""
        types = [item.content_type for item in items]
        times = [item.sent_at_us for item in items]
        answered = [item.reply_to for item in items]
        return cls(
            id=request_id,
            stream=stream,
            n=n,
            ids=[item.id for item in items],
            to=[item.to[0] if len(item.to) == 1 else item.to for item in items],
            sizes=[item.size for item in items],
            content_types=types if types.count(TEXT) < len(types) else [],
            sent_at_us=times if any(times) else [],
            reply_to=answered if any(answered) else [],
        )

    @property
    def single(self) -> list[str] | None:
        """The recipients, if each message has one: that of each. Nothing is made anew."""
        return cast("list[str]", self.to) if set(map(type, self.to)) == {str} else None

    @property
    def names(self) -> list[str]:
        """The recipients of all messages, as often as they stand there."""
        return self.single or [name for to in self.to for name in ([to] if isinstance(to, str) else to)]

    @property
    def messages(self) -> list[Item]:
        """The messages one by one, made anew each time: for who has few, or is in no hurry."""
        return [self.message(place) for place in range(len(self.ids))]

    def message(self, place: int) -> Item:
        """One message."""
        to = self.to[place]
        return Item(
            id=self.ids[place],
            to=[to] if isinstance(to, str) else to,
            size=self.sizes[place],
            content_type=self.content_types[place] if self.content_types else TEXT,
            sent_at_us=self.sent_at_us[place] if self.sent_at_us else 0,
            reply_to=self.reply_to[place] if self.reply_to else None,
        )


class Result(Struct, frozen=True, omit_defaults=True, kw_only=True, gc=False):
    """What became of one message: accepted with its `seq`, or refused for good with a `code`."""

    seq: Seq = 0
    stored_at_us: TimeUs = 0
    again: Annotated[bool, Meta(description="It had been accepted before; nothing was stored now.")] = False
    code: Annotated[str, Meta(max_length=64)] = ""
    text: Text = ""


class ApartResult(Struct, frozen=True, kw_only=True):
    """What became of a message that was not stored now: it was refused, or had been accepted before."""

    place: Count
    result: Result


class Sent(Answer, frozen=True, omit_defaults=True, kw_only=True, tag="sent"):
    """Everything accepted in it is on disk. What became of each message of the request, by its place."""

    seqs: Annotated[list[Seq], Meta(description="Of each that is accepted; 0 of those that are refused.")]
    stored_at_us: Annotated[TimeUs, Meta(description="Of all that were stored now.")] = 0
    apart: list[ApartResult] = field(default_factory=list)

    @classmethod
    def of(cls, request_id: int, results: Sequence[Result]) -> Sent:
        """Return the columns of some results."""
        seqs, stored_at_us, apart = columns_of(results)
        return cls(id=request_id, seqs=seqs, stored_at_us=stored_at_us, apart=apart)

    @property
    def results(self) -> list[Result]:
        """The results one by one."""
        return results_of(self.seqs, self.stored_at_us, self.apart)


def columns_of(results: Sequence[Result]) -> tuple[list[int], int, list[ApartResult]]:
    """Return results as they travel: seqs, the time of all that were stored now, and what stands apart."""
    apart = [ApartResult(place=place, result=each) for place, each in enumerate(results) if each.again or not each.seq]
    times = {each.stored_at_us for each in results if each.seq and not each.again}
    assert len(times) <= 1, "what is stored together is stored at one time"
    return [each.seq for each in results], max(times, default=0), apart


def results_of(seqs: Sequence[int], stored_at_us: int, apart: Sequence[ApartResult]) -> list[Result]:
    """Return results, of which those that are apart `fit`, one by one."""
    results = [Result(seq=seq, stored_at_us=stored_at_us) for seq in seqs]
    for each in apart:
        results[each.place] = each.result
    return results


def fits(seqs: Sequence[int], apart: Sequence[ApartResult], messages: int) -> bool:
    """Return whether this can be what became of so many messages: each has a seq, or a result that says why not."""
    if len(seqs) != messages:
        return False
    if not apart:
        return all(seqs)
    told = {each.place: each.result.seq for each in apart}
    refused = {place for place, seq in enumerate(seqs) if not seq}
    in_place = len(told) == len(apart) and max(told) < messages
    return in_place and refused <= told.keys() and all(seqs[place] == seq for place, seq in told.items())
