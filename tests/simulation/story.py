"""A history as a person reads it: who wanted what, what came of it, what went wrong meanwhile, in the order of time."""

from __future__ import annotations

from collections.abc import Iterator

from tests.simulation.history import History, Sending
from tests.simulation.plan import Plan

Line = tuple[float, str]


def tell(plan: Plan, history: History) -> list[str]:
    """The lines of it; times are virtual seconds."""
    lines = [*_mishaps(plan), *_sendings(history), *_calls(history), *_reading(history), *_joinings(history)]
    told = [f"{at:9.3f}  {text}" for at, text in sorted(lines, key=lambda line: line[0])]
    return [_world(plan), *told, *_end(history)]


def _world(plan: Plan) -> str:
    """What is not as usual in it from the beginning."""
    weather = plan.weather
    parts = [f"{weather.delay_s * 1000:g} ms on the way", f"{plan.auth_workers} authentication workers"]
    if weather.loss or weather.copies:
        parts.append(f"{weather.loss:.1%} lost, {weather.copies:.1%} twice")
    if plan.unsure_disk:
        parts.append(f"{plan.unsure_disk:.0%} of commits kill the store, done or not")
    if plan.unread_max:
        parts.append(f"mailboxes take {plan.unread_max} unread")
    parts += [f"{name} = {value}" for name, value in plan.bounds.items()]
    return f"seed {plan.seed}: {'; '.join(parts)}"


def _mishaps(plan: Plan) -> Iterator[Line]:
    for mishap in plan.mishaps:
        after = f" after {mishap.steps} more steps" if mishap.steps else ""
        yield mishap.at, f"── {mishap.kind}: {mishap.whom}{after}, for {mishap.for_s} s"


def _joinings(history: History) -> Iterator[Line]:
    for name, span in history.joinings.items():
        yield span.ended_at, f"{name} has an account"
    for name, span in history.closings.items():
        yield span.at, f"── {name}'s mailbox is closed, by {span.ended_at:.3f} s"


def _sendings(history: History) -> Iterator[Line]:
    for sending in history.sendings:
        yield sending.at, f"{sending.device} sends {_text(sending)}"
        if sending.result is not None:
            told = sending.result.code or f"accepted as {sending.result.seq}" + " again" * sending.result.again
            yield sending.ended_at, f"{sending.device} is told of {_text(sending)}: {told}"
        elif sending.failure:
            yield sending.ended_at, f"{sending.device} is told of {_text(sending)}: {sending.failure}"


def _text(sending: Sending) -> str:
    return f"{sending.content.decode(errors='replace')!r}"


def _calls(history: History) -> Iterator[Line]:
    for call in history.calls:
        if not call.what.startswith(("send ", "Fetch", "Register")):
            yield call.at, f"{call.who} wants: {call.what}"
            if call.ends:
                yield call.ended_at, f"{call.who} has had: {call.what}{': ' * bool(call.failure)}{call.failure}"


def _reading(history: History) -> Iterator[Line]:
    for page in history.readings:
        if page.entries:
            seqs = ", ".join(str(entry.seq) for entry in page.entries)
            yield page.ended_at, f"{page.reader} reads {seqs} of ({page.after}, {page.through}]"
    for following in history.followings:
        for entry, at in zip(following.entries, following.handed_at, strict=True):
            yield at, f"{following.reader} is handed {entry.seq}"


def _end(history: History) -> Iterator[str]:
    for name, mailbox in history.mailboxes.items():
        held = ", ".join(f"{entry.seq}{'' if entry.seq in mailbox.unread else ' (read)'}" for entry in mailbox.entries)
        yield f"  the end  {name}'s mailbox holds {held or 'nothing'}"
    for what in history.unfinished:
        yield f"  the end  {what}"
