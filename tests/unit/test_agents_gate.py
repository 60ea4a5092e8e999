from dataclasses import dataclass

from faust.types import TP

from agents.transport import Gate

A, B, OTHER = TP("sessions", 0), TP("purchases", 0), TP("elsewhere", 0)


@dataclass
class Record:
    offset: int


def gate(max_batch: int = 3) -> Gate:
    return Gate(frozenset({"sessions", "purchases"}), max_batch)


def test_nothing_is_read_before_the_gate_opens() -> None:
    assert gate().wanted({A, B}) == set()


def test_only_open_inputs_that_are_not_held_are_read() -> None:
    g = gate()
    g.open_for({A: 0, B: 5}, "1")
    assert g.wanted({A, B}) == {A, B}
    g.held.add(B)
    assert g.wanted({A, B}) == {A}
    g.close()
    assert g.wanted({A, B}) == set()


def test_topics_that_are_not_the_engines_pass() -> None:
    assert gate().wanted({OTHER}) == {OTHER}


def test_batches_follow_one_another_and_carry_their_tenure() -> None:
    g = gate(max_batch=3)
    g.open_for({A: 10}, "7")
    first = g.batches(A, [Record(n) for n in (10, 11, 12, 13)], "7")
    assert [(b.follows, len(b.records), b.tenure) for b in first] == [(10, 3, "7"), (13, 1, "7")]
    (second,) = g.batches(A, [Record(20)], "7")
    assert second.follows == 14
    assert g.fetched_to[A] == 21


def test_a_batch_never_prints_its_payloads() -> None:
    g = gate()
    g.open_for({A: 0}, "1")
    (batch,) = g.batches(A, [Record(0)], "1")
    assert repr(batch) == "<Batch sessions-0 1 records>"
