"""Secrets: where they come from, and how they stay out of every print.

Rules:
- A secret comes from an environment variable or from a mounted file, never from heartline.toml or
  the command line: those end up in version control, process lists and shell histories.
- The settings never hold one. It is read where it is used, so a command that doesn't connect needs
  none, and a token or a client secret that was exchanged on disk is found without a restart.
- `Secret` prints as stars wherever something prints its ``repr``; `redacted` takes every secret
  that was read in this process out of a text, and all logs and error lines go through it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

STARS = "***"
LONGEST_BYTES = 65_536
SHORTEST_HIDDEN = 4
"""A shorter secret would blank out half of a text; nobody should have one."""

_seen: set[str] = set()


class Secret(str):
    """A string whose ``repr`` shows nothing. ``str(secret)`` is the secret: that is how it is sent."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"'{STARS}'"


class SecretUnusable(ValueError):
    """A secret can't be had. The text names the place and what to do, and holds no secret."""


def variable_of(section: str, key: str) -> str:
    """The variable of the environment that overrides a key of the configuration."""
    return f"HEARTLINE_{section}_{key}".upper().replace(".", "_")


class SecretPlace(NamedTuple):
    """Where one secret comes from: a variable of the environment, which goes first, or a file."""

    where: str
    """As the user wrote it: "heartline.toml: [kafka.security] password"."""
    variable: str
    path: str
    """The configured file; empty if none is."""

    @classmethod
    def of(cls, source: str, section: str, key: str, path: str) -> SecretPlace:
        """That of ``key``, which ``source``, a file of settings, may only name by ``key_file``."""
        return cls(f"{source}: [{section}] {key}", variable_of(section, key), path)

    def is_given(self, environment: Mapping[str, str] | None = None) -> bool:
        """Whether either is there. Doesn't open the file."""
        env = os.environ if environment is None else environment
        return bool(env.get(self.variable) or self.path)

    def read(self, environment: Mapping[str, str] | None = None) -> Secret | None:
        """The secret without white space around it; None if neither place is given.

        Raises SecretUnusable: the file can't be read, is empty, too long or no UTF-8.
        """
        env = os.environ if environment is None else environment
        text = env.get(self.variable, "").strip()
        if not text and self.path:
            text = self._of_file()
        if not text:
            return None
        hide(text)
        return Secret(text)

    def demand(self, environment: Mapping[str, str] | None = None) -> Secret:
        """The secret. Raises SecretUnusable also where there is none."""
        found = self.read(environment)
        if found is None:
            raise SecretUnusable(
                f"{self.where}: is needed: set {self.variable}, or put it into a file and name that "
                f"by {self.where.rpartition(' ')[2]}_file"
            )
        return found

    def _of_file(self) -> str:
        place = f"{self.where}_file: {self.path}"
        try:
            with Path(self.path).open("rb") as file:
                raw = file.read(LONGEST_BYTES + 1)
            text = raw.decode().strip()
        except OSError as error:
            raise SecretUnusable(
                f"{place}: can't be read ({error.strerror or error}): mount it, or set {self.variable}"
            ) from None
        except UnicodeDecodeError:
            raise SecretUnusable(f"{place}: is no UTF-8 text") from None
        if not text:
            raise SecretUnusable(f"{place}: is empty")
        if len(raw) > LONGEST_BYTES:
            raise SecretUnusable(f"{place}: is longer than {LONGEST_BYTES} bytes: is it the file?")
        return text


def is_open_to_all(path: str) -> bool:
    """Whether every user of this machine may read the file; False if there is none."""
    try:
        return bool(path) and bool(Path(path).stat().st_mode & 0o004)
    except OSError:
        return False


def redacted(text: str) -> str:
    """``text`` with stars in the place of every secret that this process has read."""
    # Of two that begin alike the longer one first; a copy, because clients have threads.
    for secret in sorted(_seen, key=len, reverse=True):
        text = text.replace(secret, STARS)
    return text


def hide(text: str) -> None:
    """Take ``text``, a secret that was read here or received (a token), out of every print."""
    if len(text) >= SHORTEST_HIDDEN:
        _seen.add(text)


def show(text: str) -> None:
    """Forget a received secret that is over, so that tokens of months don't pile up."""
    _seen.discard(text)
