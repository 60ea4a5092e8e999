"""Logs: one line an event, on standard error, plain or as JSON, and never a payload.

Faust's and aiokafka's error paths print whole messages. Their records therefore lose everything
after the first line, are cut at 300 characters, and lose what looks like a byte string or a JSON
object; tracebacks of these libraries show at level debug only. What they say again and again (while
a broker is away: a hundred lines a second) is told once in ten seconds, with the number of
repetitions. Our own messages name topics, partitions and offsets, never a payload or a customer. Secrets
are taken out of every line.
"""

from __future__ import annotations

import logging
import re
import sys
import time

import orjson

from agents.secret import redacted

_OURS = ("agents", "streams", "schemas", "heartline")
_LONGEST = 300
_QUIET_S = 10.0
_KNOWN = 500
_PAYLOAD = re.compile(
    r"""b'(?:[^'\\]|\\.)*'|b"(?:[^"\\]|\\.)*"|\{.*\}|value=.*|key=.*""", re.DOTALL
)
_NOISE = {
    "aiokafka": logging.ERROR,
    "faust": logging.ERROR,
    "mode": logging.ERROR,
    "kafka": logging.ERROR,
    "aiohttp.access": logging.ERROR,
    "asyncio": logging.ERROR,
}


def _is_ours(record: logging.LogRecord) -> bool:
    return record.name.split(".", 1)[0] in _OURS


class NoPayloads(logging.Filter):
    """Lets every record through, foreign ones without payloads."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Rewrite the message of a library's record."""
        if _is_ours(record):
            return True
        text = record.getMessage().split("\n", 1)[0]
        record.msg = _PAYLOAD.sub("<payload>", text)[:_LONGEST]
        record.args = None
        if not logging.getLogger("agents").isEnabledFor(logging.DEBUG):
            record.exc_info = None
            record.exc_text = None
        return True


class NoRepetitions(logging.Filter):
    """Lets a library's line through once in `_QUIET_S`, and says how often it came meanwhile.

    Behind `NoPayloads`, which makes lines alike that differ in their payloads only.
    """

    def __init__(self) -> None:
        super().__init__()
        self._last: dict[str, tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to tell it. At most `_KNOWN` lines are remembered."""
        if _is_ours(record):
            return True
        text = record.getMessage()
        told_at, withheld = self._last.get(text, (-_QUIET_S, 0))
        if record.created - told_at < _QUIET_S:
            self._last[text] = told_at, withheld + 1
            return False
        if len(self._last) >= _KNOWN:
            self._last.clear()
        self._last[text] = record.created, 0
        if withheld:
            record.msg = f"{text} ({withheld} times more)"
            record.args = None
        return True


class PlainLines(logging.Formatter):
    """``12:34:56 level message``."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s", "%H:%M:%S")

    def format(self, record: logging.LogRecord) -> str:
        """The line, and below it the traceback if there is one."""
        return redacted(super().format(record))


class JsonLines(logging.Formatter):
    """One JSON object a line: time, level, logger, message."""

    def format(self, record: logging.LogRecord) -> str:
        """Encode one record."""
        at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line = {
            "time": f"{at}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": redacted(record.getMessage()),
        }
        if record.exc_info:
            line["exception"] = redacted(self.formatException(record.exc_info))
        return orjson.dumps(line).decode()


def set_up(style: str, level: str) -> None:
    """Replace the root handlers. ``style`` is plain or json, ``level`` one of the settings' levels."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if style == "json" else PlainLines())
    handler.addFilter(NoPayloads())
    if level != "debug":
        handler.addFilter(NoRepetitions())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("agents").setLevel(level.upper())
    if level != "debug":
        for name, least in _NOISE.items():
            logging.getLogger(name).setLevel(least)
