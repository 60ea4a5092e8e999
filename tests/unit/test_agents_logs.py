import json
import logging

from agents.logs import JsonLines, NoPayloads


def record(name: str, message: str, *arguments: object) -> logging.LogRecord:
    return logging.LogRecord(name, logging.ERROR, "file", 1, message, arguments, None)


def shown(one: logging.LogRecord) -> str:
    NoPayloads().filter(one)
    return one.getMessage()


def test_a_library_never_logs_a_payload() -> None:
    line = shown(record("faust.agents", "Failed: %r", b'{"customer_id":"anna"}'))
    assert "anna" not in line
    assert line.startswith("Failed: <payload>")


def test_a_library_logs_its_first_line_only() -> None:
    assert shown(record("aiokafka.conn", "closed\nvalue of anna")) == "closed"


def test_our_own_lines_stay_as_they_are() -> None:
    assert shown(record("agents.engine", "owns %s", [1, 2])) == "owns [1, 2]"


def test_json_lines_are_json() -> None:
    line = json.loads(JsonLines().format(record("agents.engine", "owns %s", 3)))
    assert line["message"] == "owns 3"
    assert line["level"] == "error"
