import hashlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.config import CoreConfig
from streams.pseudonyms import LONGEST_KEY, SHORTEST_KEY, Pseudonyms, digest_of, usable_key

KEY = b"k" * 32


def test_a_pseudonym_is_keyed_blake2b_of_128_bits_in_hexadecimal() -> None:
    expected = hashlib.blake2b("c-42 ü".encode(), key=KEY, digest_size=16).hexdigest()
    assert Pseudonyms(KEY).of("c-42 ü") == expected
    assert len(expected) == 32


def test_another_key_gives_another_pseudonym_and_another_digest() -> None:
    other = b"l" * 32
    assert Pseudonyms(KEY).of("c") != Pseudonyms(other).of("c")
    assert digest_of(KEY) != digest_of(other)
    assert KEY.decode() not in digest_of(KEY)


@pytest.mark.parametrize("length", [SHORTEST_KEY, LONGEST_KEY])
def test_a_key_of_usable_length(length: int) -> None:
    assert usable_key(b"x" * length) == b"x" * length


@pytest.mark.parametrize("length", [0, SHORTEST_KEY - 1, LONGEST_KEY + 1])
def test_a_key_too_short_or_too_long_says_how_to_make_one(length: int) -> None:
    with pytest.raises(ValueError, match="openssl rand -hex 32"):
        usable_key(b"x" * length)


@given(st.lists(st.sampled_from("abcdefgh"), max_size=60), st.integers(1, 5))
def test_forgetting_changes_no_pseudonym_and_bounds_what_is_remembered(
    identities: list[str], remembered: int
) -> None:
    pseudonyms = Pseudonyms(KEY, remembered=remembered)
    for identity in identities:
        assert pseudonyms.of(identity) == Pseudonyms(KEY).of(identity)
        assert len(pseudonyms.known) <= remembered


def test_the_fingerprint_knows_whether_ids_are_hashed_and_by_which_key() -> None:
    configs = [CoreConfig(pseudonyms=text) for text in ("", digest_of(KEY), digest_of(b"l" * 32))]
    assert len({config.fingerprint for config in configs}) == 3
    assert (
        CoreConfig().fingerprint == msgspec.structs.replace(configs[1], pseudonyms="").fingerprint
    )
