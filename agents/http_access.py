"""By whom our HTTP servers can be reached, and the token that they ask for.

What a server and whoever asks one both need, without the server's library: `agents.http_door` is the
server's side.
"""

from __future__ import annotations

import ipaddress
from typing import Literal

from agents.secret import Secret, SecretPlace, SecretUnusable
from agents.settings import Serve, Settings, Worker

Section = Literal["worker", "serve"]
SHORTEST_TOKEN = 16


def is_open(host: str) -> bool:
    """Whether others than this machine can reach a server on ``host``."""
    if host == "localhost":
        return False
    try:
        return not ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return True


def http_token(section: Section, settings: Settings) -> SecretPlace:
    """Where the token of a server comes from."""
    http: Worker | Serve = getattr(settings, section)
    return SecretPlace.of(settings.source, section, "token", http.token_file)


def read_token(section: Section, settings: Settings) -> Secret | None:
    """The token; None if nobody is asked for one. Raises SecretUnusable."""
    place = http_token(section, settings)
    token = place.read()
    if token is not None and (len(token) < SHORTEST_TOKEN or not token.isascii() or " " in token):
        raise SecretUnusable(
            f"{place.where}: must have at least {SHORTEST_TOKEN} ASCII characters and no space; make "
            "one with: openssl rand -hex 24"
        )
    return token
