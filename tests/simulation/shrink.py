"""Makes a failing plan smaller, until nothing can be taken from it: what is left is the shortest story found.

Delta debugging (Zeller and Hildebrandt, 2002): take away halves, quarters, … single ones, of everything that a plan
lists; keep what still breaks the same promise. Then whatever has a plainer value gets that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final, TypeVar

from msgspec.structs import replace

from tests.simulation.network import Weather
from tests.simulation.people import Device, Habits, Letter, Person
from tests.simulation.plan import Mishap, Plan

T = TypeVar("T")

Fails = Callable[[Plan], bool]
"""Whether a plan still breaks the promise. Must give the same for the same plan."""

PLAIN: Final = Habits()


def shrink(plan: Plan, fails: Fails, runs_max: int = 1_500, note: Callable[[Plan], None] = lambda plan: None) -> Plan:
    """The smallest plan found that fails, after at most about so many runs. `note` is told of every smaller one."""
    return Shrinker(fails, runs_max, note).shrink(plan)


class Shrinker:
    """One search."""

    def __init__(self, fails: Fails, runs_max: int, note: Callable[[Plan], None]) -> None:
        self._fails = fails
        self._note = note
        self.runs_left = runs_max

    def shrink(self, plan: Plan) -> Plan:
        """Round after round, until one changes nothing."""
        before = None
        while plan != before and self.runs_left > 0:
            before = plan
            plan = self._without_mishaps(plan)
            plan = self._without_people(plan)
            plan = self._without_letters(plan)
            plan = self._plainer(plan)
        return plan

    def _try(self, smaller: Plan) -> bool:
        """Whether it still fails; what nobody is left in doesn't."""
        if self.runs_left <= 0 or not smaller.people:
            return False
        self.runs_left -= 1
        if not self._fails(smaller):
            return False
        self._note(smaller)
        return True

    def _fewer(self, items: Sequence[T], make: Callable[[list[T]], Plan], plan: Plan) -> Plan:
        """Take from a list as much as can be taken: `make` puts what is left into the plan."""
        kept, size = list(items), len(items)
        while size >= 1 and kept:
            at = 0
            while at < len(kept):
                smaller = kept[:at] + kept[at + size :]
                candidate = make(smaller)
                if self._try(candidate):
                    kept, plan = smaller, candidate
                else:
                    at += size
            size //= 2
        return plan

    def _without_mishaps(self, plan: Plan) -> Plan:
        return self._fewer(plan.mishaps, lambda kept: replace(plan, mishaps=kept), plan)

    def _without_people(self, plan: Plan) -> Plan:
        """Whole people, then devices."""
        plan = self._fewer(plan.people, lambda kept: _of(plan, kept), plan)
        devices = [device for person in plan.people for device in person.devices]
        return self._fewer(devices, lambda kept: _of(plan, [_only(person, kept) for person in plan.people]), plan)

    def _without_letters(self, plan: Plan) -> Plan:
        """Chores, whole batches, then single letters."""
        for name in plan.devices:
            device = _device(plan, name)
            base = plan
            plan = self._fewer(device.chores, lambda kept, b=base, d=device: _put(b, replace(d, chores=kept)), plan)  # type: ignore[misc]
            base, device = plan, _device(plan, name)
            plan = self._fewer(device.outbox, lambda kept, b=base, d=device: _put(b, replace(d, outbox=kept)), plan)  # type: ignore[misc]
            for at in range(len(_device(plan, name).outbox)):
                plan = self._without_letters_of(plan, name, at)
            device = _device(plan, name)
            full = [batch for batch in device.outbox if batch]
            plan = self._first(plan, [_put(plan, replace(device, outbox=full))])
        return plan

    def _without_letters_of(self, plan: Plan, name: str, at: int) -> Plan:
        base, device = plan, _device(plan, name)

        def make(kept: list[Letter]) -> Plan:
            outbox = [*device.outbox]
            outbox[at] = kept
            return _put(base, replace(device, outbox=outbox))

        return self._fewer(device.outbox[at], make, plan)

    # --- plainer values -----------------------------------------------------------------------------------

    def _plainer(self, plan: Plan) -> Plan:
        for candidates in (_calmer, _earlier, _humbler):
            for candidate in candidates(plan):
                applied = candidate(plan)
                if applied != plan and self._try(applied):
                    plan = applied
        return plan

    def _first(self, plan: Plan, candidates: Sequence[Plan]) -> Plan:
        return next((candidate for candidate in candidates if candidate != plan and self._try(candidate)), plan)


Change = Callable[[Plan], Plan]


def _calmer(plan: Plan) -> Iterator[Change]:
    """Everything about the world that can be left as usual."""
    yield lambda p: replace(p, bounds={}, unread_max=0, unsure_disk=0.0, auth_workers=1, real_frames=False)
    yield lambda p: replace(p, weather=Weather(0.002))
    yield lambda p: replace(p, weather=Weather(p.weather.delay_s))
    yield lambda p: replace(p, auth_workers=1)
    yield lambda p: replace(p, real_frames=False)
    yield lambda p: replace(p, unsure_disk=0.0)
    yield lambda p: replace(p, unread_max=0)
    for name in plan.bounds:
        yield lambda p, name=name: replace(p, bounds={k: v for k, v in p.bounds.items() if k != name})  # type: ignore[misc]


def _earlier(plan: Plan) -> Iterator[Change]:
    """Mishaps at rounder times, and for shorter."""
    for at in range(len(plan.mishaps)):
        for digits in (0, 1, 2):
            yield lambda p, at=at, d=digits: _mishap(p, at, at_s=round(p.mishaps[at].at, d))  # type: ignore[misc]
        for seconds in (0.0, 0.3, 1.5):
            yield lambda p, at=at, s=seconds: _mishap(p, at, for_s=min(s, p.mishaps[at].for_s))  # type: ignore[misc]


def _humbler(plan: Plan) -> Iterator[Change]:
    """Habits as nobody has any; everybody there from the beginning."""
    for at in range(len(plan.people)):
        yield lambda p, at=at: _person(p, at, replace(p.people[at], joins_at=0.0))  # type: ignore[misc]
    for name in plan.devices:
        yield lambda p, name=name: _put(p, replace(_device(p, name), habits=PLAIN))  # type: ignore[misc]
        for habit in Habits.__struct_fields__:
            yield lambda p, name=name, habit=habit: _with_habit(p, name, habit)  # type: ignore[misc]


# --- plans with something else in them --------------------------------------------------------------------


def _of(plan: Plan, people: list[Person]) -> Plan:
    """The same plan with other people: what befell who is gone befalls nobody, what was for them goes to the others."""
    people = [person for person in people if person.devices]
    gone = {person.name for person in plan.people} - {person.name for person in people}
    people = [replace(person, devices=[_unaddressed(device, gone) for device in person.devices]) for person in people]
    devices = {device.name for person in plan.people for device in person.devices}
    left = {device.name for person in people for device in person.devices} | {person.name for person in people}
    mishaps = [mishap for mishap in plan.mishaps if mishap.whom not in devices or mishap.whom in left]
    return replace(plan, people=people, mishaps=mishaps)


def _unaddressed(device: Device, gone: set[str]) -> Device:
    outbox = []
    for batch in device.outbox:
        letters = [replace(letter, to=[name for name in letter.to if name not in gone]) for letter in batch]
        outbox.append([letter for letter in letters if letter.to])
    return replace(device, outbox=outbox)


def _only(person: Person, devices: list[Device]) -> Person:
    return replace(person, devices=[device for device in person.devices if device in devices])


def _device(plan: Plan, name: str) -> Device:
    return next(device for person in plan.people for device in person.devices if device.name == name)


def _put(plan: Plan, device: Device) -> Plan:
    """The same plan with another device of that name."""
    people = [
        replace(person, devices=[device if one.name == device.name else one for one in person.devices])
        for person in plan.people
    ]
    return replace(plan, people=people)


def _person(plan: Plan, at: int, person: Person) -> Plan:
    return replace(plan, people=[*plan.people[:at], person, *plan.people[at + 1 :]])


def _with_habit(plan: Plan, name: str, habit: str) -> Plan:
    device = _device(plan, name)
    return _put(plan, replace(device, habits=replace(device.habits, **{habit: getattr(PLAIN, habit)})))


def _mishap(plan: Plan, at: int, *, at_s: float | None = None, for_s: float | None = None) -> Plan:
    old: Mishap = plan.mishaps[at]
    new = replace(old, at=old.at if at_s is None else at_s, for_s=old.for_s if for_s is None else for_s)
    return replace(plan, mishaps=[*plan.mishaps[:at], new, *plan.mishaps[at + 1 :]])
