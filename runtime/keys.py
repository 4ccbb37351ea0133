"""CURVE key pairs on disk: each service has a directory with its own secret and the public keys of its peers.

    DIR/self.key          0600; "public KEY", "secret KEY" (z85), then "end": a half-written file shows
    DIR/self.pub          the public key alone, to hand to others
    DIR/peers/ROLE*.pub   one public key each; auth.pub, auth-2.pub, … are all enrolled for the role "auth"

Secrets are only where they belong: a service's directory never holds another's secret. ``make_all`` makes
the three directories of a deployment, and never overwrites a key.

    python -P -m runtime.keys make DIR
    python -P -m runtime.keys make --broker DIR --auth DIR --store DIR
        --announce FILE --here broker:5570 --public chat.example.org:5570
"""

from __future__ import annotations

import argparse
import os
import re
import secrets
import stat
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import zmq
import zmq.utils.z85 as z85

from restante.wire.address import Address, Announcement, parse_address
from runtime.errors import SetupError

#: Who needs whose public key: workers connect to the broker, the broker admits workers and pushes to the
#: store.
PEERS: Mapping[str, Sequence[str]] = {
    "broker": ("auth", "store"),
    "auth": ("broker",),
    "store": ("broker",),
}
KEY_FILE = "self.key"
PUBLIC_FILE = "self.pub"
PEER_DIR = "peers"
#: Enrolled keys a role. A bound on what is read at start; a cluster has a handful.
PEERS_MAX = 256
_ROLE_FILE = re.compile(r"(?P<role>[a-z_]+?)(?:[-.0-9][A-Za-z0-9._-]*)?\.pub")


class KeyPair(msgspec.Struct, frozen=True):
    """A CURVE key pair, both as 40 characters of z85. It prints without its secret."""

    public: bytes
    secret: bytes

    def __repr__(self) -> str:
        """Show the public half only: a key pair may end up in a log or a traceback."""
        return f"KeyPair(public={self.public!r})"


def raw_key(key: bytes) -> bytes:
    """A key's 32 bytes, from its 40 characters of z85."""
    raw: bytes = z85.decode(key)
    return raw


def make_pair() -> KeyPair:
    """Return a new key pair, made by libsodium."""
    public, secret = zmq.curve_keypair()
    return KeyPair(public, secret)


def load_or_make(directory: Path) -> KeyPair:
    """Return the key pair of ``directory``, making it on first use. Concurrent first uses agree on one.

    Raises :class:`SetupError` as :func:`load` does.
    """
    path = directory / KEY_FILE
    if not path.exists():
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        pair = make_pair()
        text = f"public {pair.public.decode()}\nsecret {pair.secret.decode()}\nend\n"
        _write_once(path, text, 0o600)
    pair = load(directory)
    write_durably(directory / PUBLIC_FILE, pair.public.decode() + "\n", 0o644)
    return pair


def load(directory: Path) -> KeyPair:
    """Return the key pair of ``directory``.

    Raises :class:`SetupError` if there is none, if others may read it, or if it is damaged.
    """
    path = directory / KEY_FILE
    text = _read_secret(path)
    found = re.fullmatch(r"public (\S{40})\nsecret (\S{40})\nend\n", text)
    if found is None or not _is_pair(found[1].encode(), found[2].encode()):
        raise SetupError(f"{path} is damaged or half-written. Restore it, or remove it and enrol the new key.")
    return KeyPair(found[1].encode(), found[2].encode())


def peers(directory: Path, role: str) -> frozenset[bytes]:
    """Return the public keys (z85) enrolled in ``directory`` for ``role`` (``"auth"``, ``"store"``,
    ``"broker"``).

    Raises :class:`SetupError` naming the file that is no public key, or if there are more than ``PEERS_MAX``.
    """
    paths = sorted(path for path in (directory / PEER_DIR).glob("*.pub") if _role(path.name) == role)
    if len(paths) > PEERS_MAX:
        raise SetupError(f"{directory / PEER_DIR} enrols {len(paths)} keys as {role}; at most {PEERS_MAX} may be.")
    return frozenset(_read_public(path) for path in paths)


def peer(directory: Path, role: str) -> bytes:
    """Return the one public key enrolled for ``role``.

    Raises :class:`SetupError` if there is none, or more than one.
    """
    found = peers(directory, role)
    if len(found) != 1:
        where = directory / PEER_DIR / f"{role}.pub"
        raise SetupError(f"{len(found)} keys are enrolled as {role}, one is needed. Put its public key into {where}.")
    return next(iter(found))


def enrol(directory: Path, name: str, public: bytes) -> None:
    """Write ``public`` to ``directory/peers/NAME.pub``, unless it stands there.

    Raises :class:`SetupError` if another key has that name: a key is never overwritten.
    """
    path = directory / PEER_DIR / f"{name}.pub"
    if path.exists():
        if _read_public(path) != public:
            raise SetupError(f"{path} holds another key. Remove it if that key is to be replaced, and run again.")
        return
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_durably(path, public.decode() + "\n", 0o644)


def make_all(directories: Path | Mapping[str, Path]) -> dict[str, KeyPair]:
    """Make the keys of a deployment and enrol each with its peers; return them by role. Repeating it
    changes nothing.

    ``directories`` is a root, in which ``broker``, ``auth`` and ``store`` are made, or a directory for each
    role.
    """
    if isinstance(directories, Path):
        directories = {role: directories / role for role in PEERS}
    pairs = {role: load_or_make(directory) for role, directory in directories.items()}
    for role, directory in directories.items():
        for other in PEERS[role]:
            if other in pairs:
                enrol(directory, other, pairs[other].public)
    return pairs


def _role(name: str) -> str:
    found = _ROLE_FILE.fullmatch(name)
    return found["role"] if found else ""


def _read_secret(path: Path) -> str:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        raise SetupError(f"There is no key at {path}. Make one: python -P -m runtime.keys make DIR") from None
    except OSError as error:
        raise SetupError(f"Can't read {path}: {error.strerror}. It must be a file of this user's.") from error
    with os.fdopen(descriptor, encoding="ascii", errors="replace") as file:
        if stat.S_IMODE(os.fstat(descriptor).st_mode) & 0o077:
            raise SetupError(f"{path} is a secret that others can read. Run: chmod 600 {path}")
        return file.read(4096)


def _read_public(path: Path) -> bytes:
    try:
        text = path.read_bytes()[:4096].strip()
    except OSError as error:
        raise SetupError(f"Can't read {path}: {error.strerror}.") from error
    if not _is_key(text):
        raise SetupError(f"{path} is not a public key (40 characters of z85). Copy it from the peer's self.pub.")
    return text


def _is_key(text: bytes) -> bool:
    try:
        return len(text) == 40 and len(z85.decode(text)) == 32
    except (KeyError, ValueError, IndexError, ArithmeticError):
        return False


def _is_pair(public: bytes, secret: bytes) -> bool:
    return _is_key(public) and _is_key(secret) and zmq.curve_public(secret) == public


def write_durably(path: Path, text: str, mode: int) -> None:
    """Replace ``path`` whole or not at all, and durably."""
    if path.exists() and path.read_bytes() == text.encode():
        return
    temporary = _temporary(path, text, mode)
    temporary.replace(path)
    _sync_directory(path.parent)


def _write_once(path: Path, text: str, mode: int) -> None:
    """As :func:`write_durably`, but the first to come wins: ``link`` refuses a name that exists."""
    temporary = _temporary(path, text, mode)
    try:
        os.link(temporary, path)
    except FileExistsError:
        pass
    finally:
        temporary.unlink()
    _sync_directory(path.parent)


def _temporary(path: Path, text: str, mode: int) -> Path:
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    except OSError as error:
        raise SetupError(f"Can't write in {path.parent}: {error.strerror}. Make it writable for this user.") from error
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        os.fchmod(descriptor, mode)
        file.write(text)
        file.flush()
        os.fsync(descriptor)
    return temporary


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _address(place: str | None, key: bytes) -> Address:
    host, _, port = (place or "").rpartition(":")
    if not host or not port.isdigit():
        raise SetupError(f"{place!r} is not HOST:PORT; --announce needs one for --here and one for --public.")
    return parse_address(str(Address(host=host, port=int(port), key=key)))


def main(argv: Sequence[str] | None = None) -> int:
    """Make keys as the command line says; return the exit code."""
    parser = argparse.ArgumentParser(prog="runtime.keys", description="Make the services' CURVE keys, once.")
    make = parser.add_subparsers(required=True).add_parser("make", help="make what is missing; overwrite nothing")
    make.add_argument("root", nargs="?", type=Path, metavar="DIR", help="make DIR/broker, DIR/auth, DIR/store")
    for role in PEERS:
        make.add_argument(f"--{role}", type=Path, metavar="DIR", help=f"the {role}'s key directory")
    make.add_argument("--announce", type=Path, metavar="FILE", help="write the broker's addresses there, for clients")
    make.add_argument("--here", metavar="HOST:PORT", help="how clients beside it reach the broker")
    make.add_argument("--public", metavar="HOST:PORT", help="how others do")
    given = parser.parse_args(argv)
    directories = {role: getattr(given, role) for role in PEERS if getattr(given, role) is not None}
    if bool(given.root) == bool(directories):
        make.error("give either one DIR for all, or --broker, --auth and --store")
    try:
        pairs = make_all(given.root or directories)
        if given.announce is not None:
            key = raw_key(pairs["broker"].public)
            announcement = Announcement(here=_address(given.here, key), public=_address(given.public, key))
            write_durably(given.announce, str(announcement), 0o644)
    except (SetupError, OSError, ValueError) as error:
        sys.stderr.write(f"keys: {error}\n")
        return 1
    for role, pair in pairs.items():
        sys.stdout.write(f"{role} {pair.public.decode()}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
