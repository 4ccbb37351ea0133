"""Password hashes: argon2id, always at the same cost.

The parameters are OWASP's least for argon2id (Password Storage Cheat Sheet): 19 MiB, two passes, one lane; 22 ms here.
To verify releases the GIL; whoever calls does so in a bounded pool of threads, each of which may hold 19 MiB.
"""

from __future__ import annotations

import secrets
from typing import Final, Protocol

import argon2
from msgspec import Struct

MEMORY_KIB: Final = 19_456
PASSES: Final = 2
LANES: Final = 1


class Checked(Struct, frozen=True):
    """What became of a password."""

    right: bool
    rehashed: str = ""
    """The same password's hash with today's parameters, if the stored one has others."""


class Passwords(Protocol):
    """What answering needs of a password hash. Both block, and may be called from any thread."""

    def hash(self, password: str) -> str:
        """The password's hash, with its parameters and salt, as a PHC string."""

    def check(self, password: str, stored: str | None) -> Checked:
        """Is it the password of that hash? With None (nobody has the name) it takes as long to say no."""


class Argon2:
    """Passwords under argon2id. The parameters can be made cheaper for tests, and dearer by who has the memory."""

    def __init__(self, *, memory_kib: int = MEMORY_KIB, passes: int = PASSES, lanes: int = LANES) -> None:
        self._hasher = argon2.PasswordHasher(time_cost=passes, memory_cost=memory_kib, parallelism=lanes)
        self._nobody = self._hasher.hash(secrets.token_hex(16))

    def hash(self, password: str) -> str:
        return self._hasher.hash(password)

    def check(self, password: str, stored: str | None) -> Checked:
        try:
            self._hasher.verify(self._nobody if stored is None else stored, password)
        except argon2.exceptions.VerifyMismatchError:
            return Checked(right=False)
        if stored is None:
            return Checked(right=False)
        rehashed = self.hash(password) if self._hasher.check_needs_rehash(stored) else ""
        return Checked(right=True, rehashed=rehashed)
