"""Files of events, their order in a replay, and when a replay says that time passed."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
import zstandard
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from agents.cdnow import cdnow_events
from agents.cli import main
from agents.event_files import read_lines, size_of, written_file
from agents.failures import Unusable
from agents.partitioners import Partitions
from agents.replay import HOUR_MS, QuietTopics, Routed, Router, first_midnight_after, in_order
from schemas.decode import Decoder

DAY_MS = 24 * HOUR_MS
MIDNIGHT_MS = 1_767_225_600_000


def event(**fields: Any) -> bytes:
    default = {"type": "page_viewed", "customer_id": "c1", "occurred_at": MIDNIGHT_MS}
    return json.dumps({**default, **fields}).encode()


@pytest.mark.parametrize("name", ["e.jsonl", "e.jsonl.gz", "e.jsonl.zst"])
def test_what_is_written_is_read_again(tmp_path: Path, name: str) -> None:
    lines = [b'{"line":%d}' % number for number in range(20_000)]
    path = str(tmp_path / name)
    with written_file(path) as out:
        out.write(b"\n".join(lines) + b"\n")
    done: list[int] = []
    assert list(read_lines((path,), done.append)) == lines
    assert done[-1] == size_of((path,))
    assert done == sorted(done)


def test_the_same_lines_give_the_same_bytes_in_a_gz(tmp_path: Path) -> None:
    for name in ("a.gz", "b.gz"):
        with written_file(str(tmp_path / name)) as out:
            out.write(b"{}\n")
    assert (tmp_path / "a.gz").read_bytes() == (tmp_path / "b.gz").read_bytes()


def test_files_packed_in_several_parts_are_read_whole(tmp_path: Path) -> None:
    (tmp_path / "a.zst").write_bytes(zstandard.compress(b"1\n") + zstandard.compress(b"2\n"))
    (tmp_path / "a.gz").write_bytes(gzip.compress(b"3\n") + gzip.compress(b"4"))
    files = (str(tmp_path / "a.zst"), str(tmp_path / "a.gz"))
    assert list(read_lines(files)) == [b"1", b"2", b"3", b"4"]


def test_blank_lines_and_line_ends_of_windows_are_no_records(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"\r\n1\r\n\n  \n2")
    assert list(read_lines((str(tmp_path / "a"),))) == [b"1", b"2"]


@pytest.mark.parametrize("name", ["no.jsonl", "no.gz", "no.zst"])
def test_a_file_that_is_not_there_or_not_packed_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(Unusable, match=name):
        list(read_lines((str(tmp_path / name),)))
    if name != "no.jsonl":
        (tmp_path / name).write_bytes(b"plain text")
        with pytest.raises(Unusable, match=name):
            list(read_lines((str(tmp_path / name),)))


@pytest.mark.parametrize(
    "line, reason",
    [
        (b"{", "not_json"),
        (b"\xff", "not_json"),
        (b"[]", "not_an_object"),
        (b"{}", "missing_type"),
        (b'{"type":"page_viewed"}', "missing_customer_id"),
        (b'{"type":"page_viewed","customer_id":7}', "missing_customer_id"),
        (b'{"type":"page_veiwed","customer_id":"c"}', "unknown_type"),
        (b'{"type":"page_viewed","customer_id":""}', "bad_customer_id"),
        (b'{"type":"page_viewed","customer_id":"%s"}' % (b"x" * 129), "bad_customer_id"),
        (b'{"type":"time_passed","until":0}', "time_passed"),
    ],
)
def test_a_line_that_cannot_be_routed_is_counted_under_its_reason(line: bytes, reason: str) -> None:
    router = Router()
    assert router.route(line) is None
    assert dict(router.unroutable) == {reason: 1}


@pytest.mark.parametrize(
    "fields",
    [
        {"occurred_at": "yesterday"},
        {"occurred_at": None},
        {"occurred_at": 0},
        {"occurred_at": "2026-01-01T00:00:00"},
        {"occurred_at": 10**18},
        {"schema_version": 99},
    ],
)
def test_whatever_else_is_wrong_is_sent_and_keeps_its_place(fields: dict[str, Any]) -> None:
    router = Router()
    before = router.route(event())
    routed = router.route(event(**fields))
    assert routed is not None
    assert before is not None
    assert routed.at_ms == before.at_ms
    assert not router.unroutable


def test_events_are_sorted_by_time_then_topic_then_line() -> None:
    router = Router()
    lines = [
        event(type="nps_answered"),
        event(type="order_placed"),
        event(occurred_at="2025-12-31T23:59:59+00:00"),
        event(),
        event(session_id="second"),
    ]
    routed = [found for line in lines if (found := router.route(line))]
    assert [item.line for item in in_order(iter(routed))] == [3, 4, 5, 2, 1]


@given(
    times=st.lists(st.integers(0, 50), max_size=60),
    in_memory=st.integers(1, 70),
)
def test_spilled_runs_give_the_same_order_as_memory(times: list[int], in_memory: int) -> None:
    items = [
        Routed(at_ms, at_ms % 4, line, b"k%d" % line, b"v\n%d" % line)
        for line, at_ms in enumerate(times)
    ]
    assert list(in_order(iter(items), in_memory=in_memory)) == sorted(items)


def test_a_topic_that_is_quiet_for_an_hour_is_told() -> None:
    quiet = QuietTopics(partitions=1)
    assert quiet.quiet_at(MIDNIGHT_MS) == []
    quiet.said(0, 0, MIDNIGHT_MS)
    just_before = MIDNIGHT_MS + HOUR_MS - 1
    assert quiet.quiet_at(just_before) == []
    quiet.said(0, 0, just_before)
    assert quiet.quiet_at(MIDNIGHT_MS + 2 * HOUR_MS - 2) == [(1, 0), (2, 0), (3, 0)]
    assert quiet.quiet_at(MIDNIGHT_MS + 2 * HOUR_MS - 2) == []


def test_a_stretch_without_events_is_told_to_everybody() -> None:
    quiet = QuietTopics(partitions=2)
    quiet.quiet_at(MIDNIGHT_MS)
    quiet.said(0, 1, MIDNIGHT_MS)
    assert len(quiet.quiet_at(MIDNIGHT_MS + DAY_MS)) == 8


def test_the_end_is_the_first_midnight_strictly_after() -> None:
    assert first_midnight_after(MIDNIGHT_MS) == MIDNIGHT_MS + DAY_MS
    assert first_midnight_after(MIDNIGHT_MS - 1) == MIDNIGHT_MS


def test_murmur2_is_the_one_of_the_java_client() -> None:
    # Figures of Apache Kafka's own UtilsTest: murmur2 of "21" and "foobar".
    partitions = Partitions("murmur2", 2**31)
    assert partitions(b"21") == -973932308 & 0x7FFFFFFF
    assert partitions(b"foobar") == -790332482 & 0x7FFFFFFF


def test_crc32_is_another_partitioner() -> None:
    keys = [b"customer-%d" % number for number in range(1_000)]
    java, librdkafka = Partitions("murmur2", 8), Partitions("crc32", 8)
    same = sum(java(key) == librdkafka(key) for key in keys)
    assert 80 < same < 170


def test_cdnow_lines_become_orders() -> None:
    (line,) = cdnow_events([b" 00004 0001 19970118  2   29.73"])
    at_ms, order, micros = Decoder().decode(line)
    assert at_ms == 853_545_600_000
    assert micros == 29_730_000
    assert json.loads(line)["customer_id"] == "0001"
    assert order is not None


def test_another_format_is_refused_with_its_line() -> None:
    with pytest.raises(Unusable, match="line 2"):
        list(cdnow_events([b"00004 0001 19970118  2   29.73", b'{"type":"order_placed"}']))


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["replay"], "FILE"),
        (["replay", "none.jsonl"], "none.jsonl: no such file"),
        (["replay", "-", "--until", "soon"], "RFC 3339"),
        (["replay", "-", "--rate", "0"], "--rate"),
        (["replay", "-", "--bootstrap", "nowhere"], "HOST:PORT"),
        (["simulate", "--to-file", "x.jsonl"], "--for"),
        (["simulate", "--truth", "x.jsonl"], "end"),
        (["simulate", "--for", "soon", "--to-file", "x.jsonl"], "90s"),
        (["simulate", "--scenario", "boom", "--for", "1s"], "flash-sale"),
        (["simulate", "--late", "0.5", "--duplicates", "0.5", "--malformed", "0.5", "--events", "1"],
         "together"),
        (["simulate", "--for", "1d", "--start", "2199-01-01T00:00:00Z"], "future"),
        (["simulate", "--events", "1", "--to-file", "/nowhere/x.jsonl"], "/nowhere/x.jsonl"),
        (["schema", "--out", "/proc/none"], "/proc/none"),
    ],
)  # fmt: skip
def test_unusable_arguments_are_one_line_and_status_2(
    arguments: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2
    assert said in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("command", [["topics", "check"], ["replay", "-"], ["simulate"]])
def test_without_kafka_one_line_says_what_to_do(command: list[str]) -> None:
    # Nothing listens on port 1.
    result = CliRunner().invoke(main, [*command, "--bootstrap", "127.0.0.1:1"], input=b"")
    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1
    assert "no Kafka answers at 127.0.0.1:1" in result.stderr
