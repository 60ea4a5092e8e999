"""Files of events: one JSON object a line, plain, ``.gz`` or ``.zst``, ``-`` for standard input or
output.

Whatever keeps a file from being read or written (absent, a directory, truncated compression) is
raised as `Unusable` with the name of the file. Lines are bytes without their line end; blank lines
are no records.
"""

from __future__ import annotations

import gzip
import io
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

import zstandard

from agents.failures import Unusable
from agents.progress import progress_bar

STANDARD = "-"
REPORT_LINES = 4_096
BUFFER_BYTES = 1 << 20

Progress = Callable[[int], None]
"""Told how many bytes of the file on disk have been read so far, over all files."""


def size_of(paths: tuple[str, ...]) -> int | None:
    """Bytes of all files on disk together; None with standard input among them.

    Raises `Unusable` for a file that isn't there.
    """
    total = 0
    for path in paths:
        if path == STANDARD:
            continue
        with _named(path):
            if Path(path).is_dir():
                raise Unusable(f"{path}: is a directory; name the files in it")
            total += Path(path).stat().st_size
    return None if STANDARD in paths else total


def read_lines(paths: tuple[str, ...], progress: Progress | None = None) -> Iterator[bytes]:
    """The lines of all files, one file after the other. Raises `Unusable`."""
    before = 0
    for path in paths:
        with _named(path), _open_raw(path) as raw, _decompressed(path, raw) as lines:
            for number, line in enumerate(lines):
                stripped = line.strip()
                if stripped:
                    yield stripped
                if progress is not None and number % REPORT_LINES == 0:
                    progress(before + _position(raw))
            before += _position(raw)
    if progress is not None:
        progress(before)


@contextmanager
def shown_lines(paths: tuple[str, ...]) -> Iterator[Iterator[bytes]]:
    """`read_lines` under a progress bar. Raises `Unusable`."""
    if paths.count(STANDARD) > 1:
        raise Unusable("- (standard input) can be read once only")
    with progress_bar("reading", size_of(paths), unit_is_bytes=True) as advance:
        yield read_lines(paths, advance)


@contextmanager
def written_file(path: str) -> Iterator[BinaryIO]:
    """A binary file to write lines to; compressed as its name says."""
    with _named(path):
        if path == STANDARD:
            yield sys.stdout.buffer
            sys.stdout.buffer.flush()
            return
        with Path(path).open("wb", buffering=BUFFER_BYTES) as raw:
            if path.endswith(".gz"):
                # No name and no time in the header: the same events give the same bytes.
                with gzip.GzipFile("", "wb", compresslevel=6, fileobj=raw, mtime=0) as packed:
                    yield cast("BinaryIO", packed)
            elif path.endswith(".zst"):
                with zstandard.ZstdCompressor(level=3).stream_writer(raw) as stream:
                    yield cast("BinaryIO", stream)
            else:
                yield raw


@contextmanager
def _named(path: str) -> Iterator[None]:
    """Failures of reading or writing ``path``, with its name."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        reason = error.strerror or str(error)
        raise Unusable(f"{path}: {reason[:1].lower()}{reason[1:]}") from error
    except EOFError as error:
        raise Unusable(f"{path}: is cut off; copy it again") from error
    except zstandard.ZstdError as error:
        raise Unusable(f"{path}: is not a whole zstd file ({error})") from error


@contextmanager
def _open_raw(path: str) -> Iterator[BinaryIO]:
    if path == STANDARD:
        yield sys.stdin.buffer
        return
    with Path(path).open("rb", buffering=BUFFER_BYTES) as raw:
        yield raw


@contextmanager
def _decompressed(path: str, raw: BinaryIO) -> Iterator[BinaryIO]:
    if path.endswith(".gz"):
        with gzip.GzipFile(fileobj=raw) as unpacked:
            yield cast("BinaryIO", unpacked)
    elif path.endswith(".zst"):
        with io.BufferedReader(_ZstdReader(raw), BUFFER_BYTES) as unpacked_lines:
            yield cast("BinaryIO", unpacked_lines)
    else:
        yield raw


class _ZstdReader(io.RawIOBase):
    """A zstd file of one or more frames; EOFError if the last one is cut off.

    The library's own reader takes a cut-off frame for the end of the file: the events behind it would
    be missing silently.
    """

    def __init__(self, raw: BinaryIO) -> None:
        self._raw = raw
        self._frame = zstandard.ZstdDecompressor().decompressobj()
        self._is_inside = False
        self._ready = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._ready:
            packed = self._frame.unused_data if self._frame.eof else b""
            if self._frame.eof:
                self._frame = zstandard.ZstdDecompressor().decompressobj()
                self._is_inside = False
            packed = packed or self._raw.read(BUFFER_BYTES)
            if not packed:
                if self._is_inside:
                    raise EOFError
                return 0
            self._is_inside = True
            self._ready = memoryview(self._frame.decompress(packed))
        count = min(len(buffer), len(self._ready))
        buffer[:count] = self._ready[:count]
        self._ready = self._ready[count:]
        return count


def _position(raw: BinaryIO) -> int:
    """Bytes read so far; 0 where the input has no position (a pipe)."""
    try:
        return os.lseek(raw.fileno(), 0, os.SEEK_CUR)
    except (OSError, ValueError):
        return 0
