import json
import logging

from agents.logs import JsonLines, NoPayloads, NoRepetitions


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


def at(second: float, one: logging.LogRecord) -> logging.LogRecord:
    one.created = second
    return one


def test_a_library_that_repeats_itself_is_heard_once_in_ten_seconds() -> None:
    once = NoRepetitions()
    line = "Unable connect to node with id %s"
    heard = [
        once.filter(at(second, record("aiokafka.conn", line, 1))) for second in (0.0, 0.1, 9.999)
    ]
    assert heard == [True, False, False]
    assert once.filter(at(5.0, record("aiokafka.conn", line, 2)))
    again = at(10.0, record("aiokafka.conn", line, 1))
    assert once.filter(again)
    assert again.getMessage() == "Unable connect to node with id 1 (2 times more)"


def test_what_we_repeat_ourselves_is_always_told() -> None:
    once = NoRepetitions()
    assert all(once.filter(at(0.0, record("agents.engine", "owns none"))) for _ in range(3))
