import pytest

from streams.claims import NOBODY, REMEMBERED_EPOCHS, Claim, ClaimLog, StateRefused


def test_the_first_claim_of_an_epoch_wins() -> None:
    log = ClaimLog()
    assert not log.apply(0, b"c|1|a.1")
    assert not log.apply(1, b"c|1|b.1")
    assert log.owner == Claim(1, "a.1")
    assert log.previous == NOBODY


def test_a_higher_epoch_takes_over_and_remembers_whom_it_replaced() -> None:
    log = ClaimLog()
    log.apply(0, b"c|1|a.1")
    log.apply(1, b"c|2|b.1")
    assert (log.owner, log.previous) == (Claim(2, "b.1"), Claim(1, "a.1"))


def test_what_a_former_owner_still_writes_does_not_count() -> None:
    log = ClaimLog()
    log.apply(0, b"c|1|a.1")
    assert log.apply(1, b"m|1|a.1|7")
    log.apply(2, b"c|2|b.1")
    assert not log.apply(3, b"m|1|a.1|8")
    assert log.apply(4, b"m|2|b.1|1")
    assert log.offset == 4


def test_whoever_claimed_the_same_epoch_second_does_not_count() -> None:
    log = ClaimLog()
    log.apply(0, b"c|1|a.1")
    log.apply(1, b"c|1|b.1")
    assert not log.apply(2, b"m|1|b.1|1")


def test_a_claim_of_an_epoch_that_is_over_changes_nothing() -> None:
    log = ClaimLog()
    log.apply(0, b"c|5|a.1")
    log.apply(1, b"c|4|b.1")
    assert log.owner == Claim(5, "a.1")


@pytest.mark.parametrize("key", [b"", b"hello", b"c|one|a.1", b"\xff\xfe"])
def test_a_foreign_record_is_refused(key: bytes) -> None:
    with pytest.raises(StateRefused, match="foreign record at offset 3"):
        ClaimLog().apply(3, key)


@pytest.mark.parametrize("key", [b"m|2|a.2|1", b"k|1|z.1|1|0", b"m|9|a.1|1"])
def test_a_record_of_somebody_who_never_claimed_is_a_damaged_key(key: bytes) -> None:
    log = ClaimLog()
    log.apply(0, b"c|1|a.1")
    log.apply(1, b"c|2|b.1")
    with pytest.raises(StateRefused, match="damaged at offset 2"):
        log.apply(2, key)


def test_claims_are_remembered_for_a_thousand_epochs() -> None:
    log = ClaimLog()
    log.apply(0, b"c|1|a.1")
    log.apply(1, f"c|{REMEMBERED_EPOCHS}|b.1".encode())
    assert Claim(1, "a.1") in log.claimed
    with pytest.raises(StateRefused):
        log.apply(2, b"m|1|z.1|1")
    log.apply(3, f"c|{REMEMBERED_EPOCHS + 1}|c.1".encode())
    assert Claim(1, "a.1") not in log.claimed
    assert not log.apply(4, b"m|1|z.1|1"), "its claim may be gone"


def test_the_key_of_a_claim_reads_back() -> None:
    log = ClaimLog()
    claim = Claim(3, "w.9")
    log.apply(0, claim.key)
    assert log.owner == claim
