"""Hashes of API keys' secrets: Argon2id, and a short memory, because a call cannot pay for it each time."""

import hashlib
import secrets
import threading
import time
from collections import OrderedDict

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

# OWASP's second choice (19 MiB, two passes): secrets here are 256 random bits, the cost is for databases that leak along with a weak generator.
MEMORY_KIB, PASSES = 19 * 1024, 2
REMEMBERED_SECONDS = 60.0
REMEMBERED = 4_096


class PasswordHashes:
    """The `SecretHashes` port. Thread-safe; one derivation at a time, so that a flood of wrong secrets takes one core and 19 MiB."""

    def __init__(self) -> None:
        self._hasher = PasswordHasher(time_cost=PASSES, memory_cost=MEMORY_KIB, parallelism=1)
        # What is remembered is keyed by a digest under a key that ends with the process: no secret stays in memory for this.
        self._salt = secrets.token_bytes(32)
        self._answers: OrderedDict[bytes, tuple[bool, float]] = OrderedDict()
        self._lock, self._deriving = threading.Lock(), threading.Lock()

    def hash(self, secret: str) -> str:
        with self._deriving:
            return self._hasher.hash(secret)

    def verify(self, hashed: str, secret: str) -> bool:
        """Whether the hash is of this secret; the answer is remembered for a minute."""
        asked = hashlib.blake2b(f"{hashed}\0{secret}".encode("utf-8", "surrogatepass"), key=self._salt).digest()
        with self._lock:
            answer, until = self._answers.get(asked, (False, 0.0))
            if time.monotonic() < until:
                return answer
        with self._deriving:
            answer = self._derive(hashed, secret)
        with self._lock:
            self._answers[asked] = answer, time.monotonic() + REMEMBERED_SECONDS
            self._answers.move_to_end(asked)
            if len(self._answers) > REMEMBERED:
                self._answers.popitem(last=False)
        return answer

    def _derive(self, hashed: str, secret: str) -> bool:
        try:
            return self._hasher.verify(hashed, secret)
        except (VerificationError, InvalidHashError):
            return False
