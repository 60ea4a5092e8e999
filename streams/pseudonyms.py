"""Customer ids that tell nobody who the customer is: hashed with a key, at the door.

The pseudonym of an id is BLAKE2b of its UTF-8, keyed, 128 bit, as 32 hexadecimal digits:
``hashlib.blake2b(id, key=key, digest_size=16).hexdigest()``. Whoever holds the key can find a
known customer's pseudonym, and nobody can go back. At a billion customers the chance that any two
share one is below 10^-20.
"""

from __future__ import annotations

import hashlib

SHORTEST_KEY = 32
LONGEST_KEY = 64
"""BLAKE2b takes no longer one."""
REMEMBERED = 65_536
"""Ids of one partition whose pseudonyms are at hand: about 200 bytes each."""


def usable_key(key: bytes) -> bytes:
    """``key`` if it can be one. Raises ValueError with what to do."""
    if not SHORTEST_KEY <= len(key) <= LONGEST_KEY:
        msg = (
            f"has {len(key)} bytes: allowed are {SHORTEST_KEY} to {LONGEST_KEY}, by chance; make one "
            "with: openssl rand -hex 32"
        )
        raise ValueError(msg)
    return key


def digest_of(key: bytes) -> str:
    """What a fingerprint may say of the key: it tells two keys apart and gives none away."""
    return hashlib.blake2b(
        b"heartline pseudonyms", key=key, digest_size=8, person=b"fingerprint"
    ).hexdigest()


class Pseudonyms:
    """The pseudonyms of the customers of one partition.

    Remembers those of the newest REMEMBERED customers, because a hash costs as much as folding the
    event: when that many are known, the older half is forgotten. ``known`` holds raw ids; it is
    memory of the process and part of no snapshot.
    """

    __slots__ = ("_key", "known", "remembered")

    def __init__(self, key: bytes, *, remembered: int = REMEMBERED) -> None:
        """``key`` as `usable_key` returns it."""
        self._key = key
        self.known: dict[str, str] = {}
        self.remembered = remembered

    def of(self, identity: str) -> str:
        """The pseudonym of a customer id."""
        found = self.known.get(identity)
        if found is None:
            if len(self.known) >= self.remembered:
                for old in list(self.known)[: (self.remembered + 1) // 2]:
                    del self.known[old]
            found = hashlib.blake2b(identity.encode(), key=self._key, digest_size=16).hexdigest()
            self.known[identity] = found
        return found
