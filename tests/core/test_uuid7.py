"""Ids: RFC 9562, section 5.7, and those that derive."""

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.core.uuid7 import RANDOM_BYTES, derive, is_uuid, uuid7

RANDOM = st.binary(min_size=RANDOM_BYTES, max_size=RANDOM_BYTES)


def test_it_is_the_rfcs_example() -> None:
    """RFC 9562, appendix A.6."""
    rand_a, rand_b = 0xCC3, 0x18C4DC0C0C07398F
    random = (rand_a << 62 | rand_b).to_bytes(RANDOM_BYTES, "big")
    assert uuid7(0x017F22E279B0, random) == "017f22e2-79b0-7cc3-98c4-dc0c0c07398f"


@given(st.integers(), RANDOM)
def test_every_time_gives_a_uuid7(unix_ms: int, random: bytes) -> None:
    """A clock that was never set, or one from the far future, still gives a valid id."""
    found = UUID(uuid7(unix_ms, random))
    assert found.version == 7
    assert found.variant == "specified in RFC 4122"


@given(st.integers(0, 2**48 - 2), RANDOM, RANDOM)
def test_a_later_one_sorts_after_an_earlier_one(unix_ms: int, one: bytes, other: bytes) -> None:
    """Ids of different milliseconds sort by time, as text too."""
    assert uuid7(unix_ms, one) < uuid7(unix_ms + 1, other)


@pytest.mark.parametrize("size", [0, RANDOM_BYTES - 1, RANDOM_BYTES + 1])
def test_it_wants_its_random_bytes(size: int) -> None:
    with pytest.raises(ValueError, match=f"expected 10 random bytes, got {size}"):
        uuid7(0, bytes(size))


@given(st.integers(0, 2**48 - 1), RANDOM, st.text(), st.text())
def test_a_derived_id_is_always_the_same(unix_ms: int, random: bytes, name: str, other: str) -> None:
    """The same parent and name give the same UUIDv7, of the parent's time; another name another one."""
    parent = uuid7(unix_ms, random)
    found = derive(parent, name)
    assert found == derive(parent, name)
    assert UUID(found).version == 7
    assert found[:13] == parent[:13]
    assert found != parent
    assert name == other or found != derive(parent, other)


def test_a_derived_id_needs_a_uuid() -> None:
    with pytest.raises(ValueError, match="UUID"):
        derive("alarm-1", "raised")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("017f22e2-79b0-7cc3-98c4-dc0c0c07398f", True),
        ("017F22E2-79B0-7CC3-98C4-DC0C0C07398F", False),
        ("017f22e279b07cc398c4dc0c0c07398f", False),
        ("alarm-1", False),
    ],
)
def test_a_uuid_is_known_by_its_usual_form(text: str, expected: bool) -> None:
    assert is_uuid(text) is expected
