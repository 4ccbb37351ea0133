"""CHAT/1 from its specification alone: a message's way to *read*. raw_client.py ADDRESS [SENDER RECIPIENT]"""

import base64
import re
import secrets
import sys
import threading
import time
from typing import Any

import msgpack
import zmq

CONTEXT, ANSWER_S, DEADLINE = zmq.Context(), 10.0, time.monotonic() + 25.0  # within a beat: no `ping` is due
ADDRESS = re.compile(r"chat://([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::([0-9]{1,5}))?/([A-Za-z0-9_-]{43})/?")
Refused = RuntimeError  # its argument is the header of an `error`, or what stands for one


class Connection:
    """One person's connection, made anew where it must be; one request at a time."""

    def __init__(self, address: str) -> None:
        if not (match := ADDRESS.fullmatch(address.strip())) or not 1 <= int(match[2] or 5570) <= 65535:
            raise Refused({"code": "bad_address", "text": "say chat://HOST:PORT/KEY"})
        self.endpoint, self.key = f"tcp://{match[1]}:{match[2] or 5570}", base64.urlsafe_b64decode(match[3] + "=")
        self.last_id, self.token = 0, b""
        self.connect()

    def connect(self) -> None:
        new = self.socket = CONTEXT.socket(zmq.DEALER)
        new.curve_publickey, new.curve_secretkey = zmq.curve_keypair()
        new.curve_serverkey, new.reconnect_ivl, new.linger, new.ipv6 = self.key, -1, 0, "[" in self.endpoint
        new.connect(self.endpoint)
        self.ask("hello")
        if self.token:
            self.ask("resume", token=self.token)

    def ask(self, kind: str, body: Any = b"", **fields: Any) -> dict[str, Any]:
        self.last_id, until = self.last_id + 1, min(time.monotonic() + ANSWER_S, DEADLINE)
        silence = {"code": "no_answer", "text": f"{kind}: nobody, or another key", "retry_after_ms": 0, "fatal": True}
        try:
            header = msgpack.packb({"type": kind, "id": self.last_id, **fields})
            self.socket.send_multipart([b"CHAT/1", header, body], zmq.NOBLOCK)
            while (left := until - time.monotonic()) > 0 and self.socket.poll(int(left * 1000) + 1):
                _, header, *rest = self.socket.recv_multipart()
                answer = msgpack.unpackb(header, strict_map_key=False)
                if answer["type"] == "error" and answer.get("id") in (None, self.last_id):
                    raise Refused(answer)
                if answer.get("id") == self.last_id:
                    return {**answer, "body": b"".join(rest)}
        except (ValueError, TypeError, KeyError, zmq.ZMQError) as error:
            silence["text"] = f"{kind}: {error}"
        raise Refused(silence)

    def call(self, kind: str, body: Any = b"", **fields: Any) -> dict[str, Any]:
        """Ask, and repeat it for as long as that may help: with the same ids, a repetition does nothing twice."""
        while True:
            try:
                if self.socket.closed:
                    self.connect()
                return self.ask(kind, body, **fields)
            except Refused as refused:
                wait_ms = refused.args[0].get("retry_after_ms")
                if wait_ms is None or time.monotonic() + wait_ms / 1000 >= DEADLINE:
                    raise
                if refused.args[0].get("fatal"):
                    self.socket.close()
                threading.Event().wait(max(wait_ms, 100) / 1000)


def main(address: str, sender: str, recipient: str) -> bool:
    text, password, message_id = b"left at the counter", secrets.token_urlsafe(), secrets.token_bytes(16)
    for name, person in ((sender, alice := Connection(address)), (recipient, bob := Connection(address))):
        person.call("register", op=secrets.token_bytes(16), name=name, password=password)
        person.token = person.call("login", op=secrets.token_bytes(16), name=name, password=password)["token"]
        print(f"registered and logged in: {name}")
    message = {"ids": [message_id], "to": [recipient], "sizes": [len(text)]}
    sent = alice.call("send", text, stream=secrets.token_bytes(16), n=1, **message)
    if sent["seqs"] == [0]:
        raise Refused(sent["apart"][0]["result"])
    print(f"sent, and on disk there: {message_id.hex()}")
    page: dict[str, Any] = {"more": True, "through": 0}
    while page.get("more") and not page.get("messages"):
        page = bob.call("fetch", after=page["through"], limit=1, **{"from": sender})
    [entry] = page["messages"]
    print(f"fetched from {entry['from']}: {page['body'].decode()!r}")
    print(f"acknowledged: {bob.call('ack', seqs=[entry['seq']]).get('changed', 0)}")
    state = alice.call("status", ids=[message_id])["messages"][0]["recipients"][0]["state"]
    print(f"its sender sees that it is {state}")
    return bool(entry["id"] == message_id and page["body"] == text and state == "read")


if __name__ == "__main__":
    fresh = [f"{role}-{secrets.token_hex(4)}" for role in ("sender", "recipient")]
    try:
        sys.exit(not main(*((sys.argv[1:] or [""]) + fresh)[:3]))
    except Refused as refused:
        sys.exit("{code}: {text}".format_map({"text": "", **refused.args[0]}))
    finally:
        CONTEXT.destroy(linger=0)
