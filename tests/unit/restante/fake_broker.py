"""A broker in a thread, over a real ROUTER under CURVE: enough of one to use the clients, and ways to be a bad one."""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Callable
from typing import Final

import zmq
from zmq.utils import z85

from restante.wire import codec, envelopes, limits
from restante.wire.address import Address
from restante.wire.envelopes import Entry, Envelope, Error
from restante.wire.errors import RemoteProtocolError

HISTORY: Final = b"h" * 16
VERSION: Final = "fake 1"


class FakeBroker:
    """Start it with `with`. What it does wrong is said by `refuse_next`, `silent`, `forget_sessions`, `cut`."""

    def __init__(self) -> None:
        self._context = zmq.Context()
        self._public, self._secret = zmq.curve_keypair()
        self._port = 0
        self._router = self._bind()
        self._doorbell, self._door = self._context.socket(zmq.PAIR), self._context.socket(zmq.PAIR)
        self._doorbell.bind("inproc://door")
        self._door.connect("inproc://door")
        self._orders: deque[Callable[[], None]] = deque()
        self._done = threading.Event()
        self._over = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.address = Address("127.0.0.1", self._port, z85.decode(self._public))
        self.passwords: dict[str, str] = {}
        self.tokens: dict[bytes, str] = {}
        self.names: dict[bytes, str] = {}
        """Who a connection has logged in as."""
        self.greeted: set[bytes] = set()
        self.log: list[tuple[str, Entry, bytes]] = []
        """Stored messages: sender, entry without its reader, content."""
        self.results: dict[tuple[str, bytes], int] = {}
        self.read: set[tuple[str, int]] = set()
        self.subs: dict[tuple[bytes, int], int] = {}
        """Subscriptions, and the last message that each was delivered."""
        self._firsts: dict[tuple[bytes, int], int] = {}
        self._expected: dict[tuple[bytes, bytes], int] = {}
        """The number that is next in a connection's stream."""
        self.seen: list[Envelope] = []
        self.refusals: dict[type[Envelope], deque[Error]] = {}
        self.silent: set[type[Envelope]] = set()
        self._seqs = itertools.count(1)
        self._tokens = itertools.count(1)

    def __enter__(self) -> FakeBroker:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over = True
        self._doorbell.send(b"")
        self._thread.join(10)
        assert not self._thread.is_alive()
        for socket in (self._router, self._door, self._doorbell):
            socket.close(linger=0)
        self._context.term()

    # --- how it misbehaves ----------------------------------------------------------------------------

    def refuse_next(self, kind: type[Envelope], code: str, *, wait_ms: int | None = None, fatal: bool = False) -> None:
        """Answer the next request of a kind with an error."""
        error = Error(id=1, code=code, text=f"refused: {code}", retry_after_ms=wait_ms, fatal=fatal)
        self.refusals.setdefault(kind, deque()).append(error)

    def forget_sessions(self) -> None:
        """Know nobody any more, as after a long silence."""
        self.order(self._forget)

    def cut(self) -> None:
        """Break all connections, and take new ones at the same place."""
        self.order(self._rebind)

    def order(self, act: Callable[[], None]) -> None:
        """Have something done by the broker's own thread; returns when it is."""
        self._done.clear()
        self._orders.append(act)
        self._doorbell.send(b"")
        assert self._done.wait(10)

    def count(self, kind: type[Envelope]) -> int:
        """How many requests of a kind were seen."""
        return sum(isinstance(header, kind) for header in self.seen)

    # --- the loop -------------------------------------------------------------------------------------

    def _bind(self) -> zmq.Socket[bytes]:
        router: zmq.Socket[bytes] = self._context.socket(zmq.ROUTER)
        router.linger = 0
        router.curve_server = True
        router.curve_publickey, router.curve_secretkey = self._public, self._secret
        try:
            router.bind(f"tcp://127.0.0.1:{self._port or '*'}")
        except zmq.ZMQError:
            router.close()
            raise
        endpoint = router.getsockopt_string(zmq.LAST_ENDPOINT)
        self._port = int(endpoint.rpartition(":")[2])
        return router

    def _rebind(self) -> None:
        self._router.close(linger=0)
        deadline = 200
        while True:
            try:
                self._router = self._bind()
                break
            except zmq.ZMQError:
                deadline -= 1
                assert deadline, "the port does not come free"
                self._done.wait(0.02)
        self._forget()

    def _forget(self) -> None:
        self.names.clear()
        self.greeted.clear()
        self.subs.clear()
        self._expected.clear()

    def _run(self) -> None:
        while not self._over:
            poller = zmq.Poller()
            poller.register(self._door, zmq.POLLIN)
            poller.register(self._router, zmq.POLLIN)
            for socket, _ in poller.poll():
                if socket is self._door:
                    self._door.recv()
                    if self._orders:
                        self._orders.popleft()()
                        self._done.set()
                        break
                else:
                    peer, *frames = self._router.recv_multipart()
                    self._read(peer, frames)

    def _read(self, peer: bytes, frames: list[bytes]) -> None:
        try:
            header, body = codec.from_client.read(frames)
        except RemoteProtocolError as error:
            self._say(peer, Error(id=error.request_id, code=error.code, text=error.text))
            return
        self.seen.append(header)
        refusals = self.refusals.get(type(header))
        if isinstance(header, envelopes.Credit) or type(header) in self.silent:
            return
        if isinstance(header, envelopes.Send) and header.n != self._expected.setdefault(
            (peer, header.stream), header.n
        ):
            expected = self._expected[peer, header.stream]
            self._say(peer, Error(id=header.id, code="gap", retry_after_ms=0, expected=expected))
        elif refusals:
            planned = refusals.popleft()
            self._refuse(peer, header, planned.code, retry_after_ms=planned.retry_after_ms, fatal=planned.fatal)
        elif not isinstance(header, envelopes.Hello) and peer not in self.greeted:
            self._refuse(peer, header, "no_session", fatal=True)
        else:
            self._answer(peer, header, body)

    def _say(self, peer: bytes, header: Envelope, body: bytes = b"") -> None:
        self._router.send_multipart([peer, *codec.client_frames(header, body)])

    def _refuse(
        self,
        peer: bytes,
        header: envelopes.Request,
        code: str,
        *,
        retry_after_ms: int | None = None,
        fatal: bool = False,
    ) -> None:
        self._say(peer, Error(id=header.id, code=code, text=code, retry_after_ms=retry_after_ms, fatal=fatal))

    # --- what it knows --------------------------------------------------------------------------------

    def _answer(self, peer: bytes, header: envelopes.Request, body: bytes) -> None:
        if isinstance(header, envelopes.Hello):
            self.greeted.add(peer)
            self._say(peer, envelopes.Welcome(id=header.id, version=1, server=VERSION, heartbeat_ms=30_000, auth=True))
        elif isinstance(header, envelopes.Register):
            self.passwords[header.name] = header.password
            self._say(peer, envelopes.Registered(id=header.id, account=self._account(header.name), name=header.name))
        elif isinstance(header, envelopes.Login):
            self._log_in(peer, header, header.name, header.password)
        elif isinstance(header, envelopes.Resume):
            name = self.tokens.get(header.token)
            if name is None:
                self._refuse(peer, header, "bad_token")
            else:
                self._let_in(peer, header, name, None)
        elif peer not in self.names:
            self._refuse(peer, header, "not_logged_in")
        elif isinstance(header, envelopes.Send):
            self._store(peer, header, body)
        elif isinstance(header, envelopes.Fetch | envelopes.Subscribe | envelopes.Unsubscribe | envelopes.Ack):
            self._about_mail(peer, header)
        else:
            self._about_account(peer, header)

    def _account(self, name: str) -> int:
        return list(self.passwords).index(name) + 1

    def _log_in(self, peer: bytes, header: envelopes.Request, name: str, password: str) -> None:
        if self.passwords.get(name) != password:
            self._refuse(peer, header, "wrong_credentials")
            return
        token = next(self._tokens).to_bytes(limits.TOKEN_BYTES, "big")
        self.tokens[token] = name
        self._let_in(peer, header, name, token)

    def _let_in(self, peer: bytes, header: envelopes.Request, name: str, token: bytes | None) -> None:
        self.names[peer] = name
        account = self._account(name)
        self._say(peer, envelopes.LoggedIn(id=header.id, account=account, name=name, expires_at_us=9, token=token))

    def _store(self, peer: bytes, header: envelopes.Send, body: bytes) -> None:
        self._expected[peer, header.stream] += 1
        sender = self.names[peer]
        now_us = len(self.log) + 1  # what is stored together is stored at one time
        results = []
        for item, content in zip(header.messages, codec.cut(body, (i.size for i in header.messages)), strict=True):
            known = self.results.get((sender, item.id))
            if known is not None:
                results.append(envelopes.Result(seq=known, again=True))
            elif not set(item.to) <= self.passwords.keys():
                results.append(envelopes.Result(code="unknown_recipient", text="no account has one of these names"))
            else:
                seq = self.results[sender, item.id] = next(self._seqs)
                entry = Entry(
                    seq=seq, id=item.id, sender=sender, to=item.to, size=item.size, stored_at_us=now_us,
                    content_type=item.content_type, sent_at_us=item.sent_at_us, reply_to=item.reply_to,
                )  # fmt: skip
                self.log.append((sender, entry, content))
                results.append(envelopes.Result(seq=seq, stored_at_us=now_us))
        self._say(peer, envelopes.Sent.of(header.id, results))
        for (reader, sub), _ in list(self.subs.items()):
            self._deliver(reader, sub)

    def _mail(self, name: str, after: int, sender: str, *, unread: bool = True) -> list[tuple[Entry, bytes]]:
        return [
            (entry, content)
            for who, entry, content in self.log
            if name in entry.to
            and entry.seq > after
            and sender in ("", who)
            and not (unread and (name, entry.seq) in self.read)
        ]

    def _about_mail(self, peer: bytes, header: envelopes.Request) -> None:
        name = self.names[peer]
        if isinstance(header, envelopes.Fetch):
            mail = self._mail(name, header.after, header.sender, unread=header.unread)
            rows = mail[: header.limit]
            more = len(mail) > len(rows)
            through = rows[-1][0].seq if more else max([header.after, *(entry.seq for _, entry, _ in self.log)])
            page = envelopes.Page(
                id=header.id, history=HISTORY, through=through, more=more, messages=[entry for entry, _ in rows]
            )
            self._say(peer, page, b"".join(content for _, content in rows))
        elif isinstance(header, envelopes.Subscribe):
            self.subs[peer, header.sub] = header.after
            self._say(peer, envelopes.Subscribed(id=header.id, sub=header.sub, history=HISTORY))
            self._firsts[peer, header.sub] = 1
            self._deliver(peer, header.sub)
        elif isinstance(header, envelopes.Unsubscribe):
            self.subs.pop((peer, header.sub), None)
            self._say(peer, envelopes.Done(id=header.id))
        elif isinstance(header, envelopes.Ack):
            self._mark(peer, header)

    def _deliver(self, peer: bytes, sub: int) -> None:
        rows = self._mail(self.names[peer], self.subs[peer, sub], "")
        if rows:
            first = self._firsts[peer, sub]
            self._firsts[peer, sub] += len(rows)
            self.subs[peer, sub] = rows[-1][0].seq
            deliver = envelopes.Deliver(sub=sub, first=first, messages=[entry for entry, _ in rows])
            self._say(peer, deliver, b"".join(content for _, content in rows))

    def _mark(self, peer: bytes, header: envelopes.Ack) -> None:
        name = self.names[peer]
        mine = {entry.seq: entry.id for entry, _ in self._mail(name, 0, "", unread=False)}
        seqs = {seq for seq, each in mine.items() if seq in header.seqs or each in header.ids}
        marks = {(name, seq) for seq in seqs}
        changed = marks - self.read if header.read else marks & self.read
        self.read = self.read | marks if header.read else self.read - marks
        self._say(
            peer,
            envelopes.Acked(
                id=header.id,
                changed=len(changed),
                unknown_seqs=[seq for seq in header.seqs if seq not in mine],
                unknown_ids=[each for each in header.ids if each not in mine.values()],
            ),
        )

    def _about_account(self, peer: bytes, header: envelopes.Request) -> None:
        name = self.names[peer]
        answer: envelopes.Answer
        if isinstance(header, envelopes.Overview):
            unread, total = len(self._mail(name, 0, "")), len(self._mail(name, 0, "", unread=False))
            account = self._account(name)
            answer = envelopes.Account(id=header.id, account=account, name=name, unread=unread, total=total)
        elif isinstance(header, envelopes.Lookup):
            answer = envelopes.Found(id=header.id, names=[each for each in header.names if each in self.passwords])
        elif isinstance(header, envelopes.Tokens):
            info = envelopes.TokenInfo(token=1, device="d", created_at_us=1, last_used_at_us=1, expires_at_us=1)
            answer = envelopes.TokenList(id=header.id, tokens=[info])
        elif isinstance(header, envelopes.Status):
            statuses = [envelopes.MessageStatus(id=each, seq=self.results.get((name, each), 0)) for each in header.ids]
            answer = envelopes.Statuses(id=header.id, messages=statuses)
        elif isinstance(header, envelopes.Passwd):
            self.passwords[name] = header.new
            self.tokens.clear()
            self._log_in(peer, header, name, header.new)
            return
        else:
            answer = envelopes.Done(id=header.id)
        self._say(peer, answer)
