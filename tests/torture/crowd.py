"""The people's processes: made accounts for, started, killed, started again, and asked to come to an end."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from restante import Client
from restante.wire.envelopes import Entry
from tests.simulation.history import Mailbox
from tests.torture.batch import Batcher
from tests.torture.people import Part, entry_of
from tests.torture.places import Place, spawn
from tests.torture.seen import Seen

PASSWORD: Final = "correct horse"

SENDERS: Final = {"sender": ("ann", 60.0), "hasty sender": ("hal", 4.0)}
"""Processes that send by the library: the account, and how long one waits for an answer, in seconds."""

BATCHER: Final = "batch sender"
BATCH_ACCOUNT: Final = "bea"

READERS: Final = {
    "follower": ("follower", "flo"),
    "poller": ("poller", "pol"),
    "second follower": ("follower", "duo"),
    "second poller": ("poller", "duo"),
}
"""Processes that read: what they do, and whose mailbox it is. Duo has two devices."""

MAILBOXES: Final = ("duo", "flo", "pol")
PEOPLE: Final = (*SENDERS, BATCHER, *READERS)


class Person(Struct):
    """One process of the library, and its script."""

    part: Part
    process: subprocess.Popen[bytes] | None = None
    rests_until: float = 0.0
    starts: int = 0
    done: bool = False


class Crowd:
    """Everybody. `folder` holds their journals and logs."""

    def __init__(self, place: Place, folder: Path, seed: int) -> None:
        self.folder = folder
        self.complaints: list[str] = []
        self._place = place
        self._tokens: dict[str, bytes] = {}
        self._accounts: dict[str, int] = {}
        for account in (*(account for account, _ in SENDERS.values()), BATCH_ACCOUNT, *MAILBOXES):
            self._join(account)
        self._people = {
            name: Person(self._part(name, "sender", account, seed + n, timeout_s))
            for n, (name, (account, timeout_s)) in enumerate(SENDERS.items())
        }
        for n, (name, (role, account)) in enumerate(READERS.items(), 10):
            self._people[name] = Person(self._part(name, role, account, seed + n, 10.0))
        self._batcher = Batcher(
            name=BATCHER.replace(" ", "-"),
            account=self._accounts[BATCH_ACCOUNT],
            token=self._tokens[BATCH_ACCOUNT],
            address=place.address,
            folder=folder,
            readers=list(MAILBOXES),
            seed=seed,
            env=place.env,
            start=self._start,
        )
        self._batcher_rests_until = 0.0

    def _join(self, account: str) -> None:
        with Client(self._place.direct) as client:
            self._accounts[account] = client.register(account, PASSWORD).account
            token = client.login(account, PASSWORD).token
            assert token is not None, "a login brings one"
            self._tokens[account] = token

    def _part(self, name: str, role: str, account: str, seed: int, timeout_s: float) -> Part:
        return Part(
            role=role,
            name=name.replace(" ", "-"),
            account=account,
            address=self._place.address,
            token=self._tokens[account],
            folder=str(self.folder),
            seed=seed,
            readers=list(MAILBOXES),
            timeout_s=timeout_s,
        )

    # --- their lives --------------------------------------------------------------------------------------

    @property
    def lives(self) -> int:
        """Processes started, each of which connects once if nothing goes wrong."""
        return len(self._batcher.runs) + sum(person.starts for person in self._people.values())

    def pids(self) -> dict[str, int]:
        processes = {name: person.process for name, person in self._people.items()}
        processes[BATCHER] = self._batcher.process
        return {name: each.pid for name, each in processes.items() if each is not None and each.poll() is None}

    def kill(self, name: str, rests_until: float) -> bool:
        """SIGKILL; whether there was something to kill."""
        if name not in self.pids():
            return False
        if name == BATCHER:
            assert self._batcher.process is not None
            self._batcher.process.kill()
            self._batcher.process.wait(10)
            self._batcher_rests_until = rests_until
            return True
        person = self._people[name]
        assert person.process is not None
        person.process.kill()
        person.process.wait(10)
        person.process, person.rests_until = None, rests_until
        return True

    def turn(self, now: float, *, quiet: bool = False) -> list[str]:
        """Start whoever isn't there, feed the batch; who is not done yet."""
        for name, person in self._people.items():
            if person.process is not None and (code := person.process.poll()) is not None:
                person.process, person.done = None, code == 0
                if code:
                    self.complaints.append(f"the {name} ended with {code}; {person.part.name}.log says why")
                    person.rests_until = now + 1.0
            if person.process is None and not person.done and now >= person.rests_until:
                self._begin(person)
        busy = now < self._batcher_rests_until or self._batcher.turn(now, quiet=quiet)
        return [*(name for name, person in self._people.items() if not person.done), *([BATCHER] if busy else [])]

    def _begin(self, person: Person) -> None:
        part = person.part
        path = self.folder / f"{part.name}.json"
        path.write_bytes(msgspec.json.encode(part))
        argv = [sys.executable, "-P", "-m", "tests.torture.people", str(path)]
        person.starts += 1
        person.process = self._start(part.name, argv, env=self._place.env)

    def _start(
        self, name: str, argv: list[str], *, env: dict[str, str], stdin: int = subprocess.DEVNULL,
        stdout: Path | None = None,
    ) -> subprocess.Popen[bytes]:  # fmt: skip
        return spawn(argv, env=env, folder=self.folder, log=self.folder / f"{name}.log", stdin=stdin, stdout=stdout)

    def say(self, what: str) -> None:
        """Tell everybody: `quiet`, nothing new is to be sent; `drained`, nothing more will come."""
        (self.folder / what).touch()

    def stop(self) -> None:
        for name in self.pids():
            self.kill(name, 0.0)

    # --- what they saw ------------------------------------------------------------------------------------

    def seen(self) -> Seen:
        """Everybody's journals, and what is in the mailboxes now."""
        self.complaints += self._batcher.complaints
        names = [*(account for account, _ in SENDERS.values()), BATCH_ACCOUNT, *MAILBOXES]
        seen = Seen(names=names, mailboxes={name: self._mailbox(name) for name in MAILBOXES})
        for name, (account, _) in SENDERS.items():
            seen.add_sender(account, self._people[name].part.journal)
        seen.add_batches(BATCH_ACCOUNT, self._batcher.runs)
        for name, (_, account) in READERS.items():
            seen.add_reader(account, self._people[name].part.journal)
        return seen

    def _mailbox(self, name: str) -> Mailbox:
        entries: list[Entry] = []
        contents: list[bytes] = []
        with Client(self._place.direct, token=self._tokens[name]) as client:
            for message in client.inbox(unread=False, peek=True):
                entries.append(entry_of(message))
                contents.append(message.body)
            unread = [message.seq for message in client.inbox(unread=True, peek=True)]
        return Mailbox(entries, contents, unread)
