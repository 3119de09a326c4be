import pytest
from hypothesis import given
from hypothesis import strategies as st

from aelf_p2p.core.chain_id import (
    chain_id_from_text_untrusted,
    chain_id_to_text,
    describe_chain_id,
    resolve_chain_id,
)
from aelf_p2p.core.errors import MalformedError, MisuseError
from aelf_p2p.testing.vectors import load_vectors

ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"


def test_known_chains() -> None:
    for vector in load_vectors().chain_ids:
        assert chain_id_from_text_untrusted(vector.text) == vector.value
        assert chain_id_to_text(vector.value) == vector.text
    assert chain_id_from_text_untrusted("AELF") == 9992731


@pytest.mark.parametrize(("text", "big_endian"), [("2111", 195112), ("zzzz", 11316495)])
def test_first_and_last_name(text: str, big_endian: int) -> None:
    chain_id = int.from_bytes(big_endian.to_bytes(3, "big"), "little")
    assert chain_id_from_text_untrusted(text) == chain_id
    assert chain_id_to_text(chain_id) == text


@given(st.integers(195112, 11316495))
def test_every_number_of_the_range_comes_back(big_endian: int) -> None:
    chain_id = int.from_bytes(big_endian.to_bytes(3, "big"), "little")
    assert chain_id_from_text_untrusted(chain_id_to_text(chain_id)) == chain_id


@given(st.text(ALPHABET, min_size=4, max_size=4).filter(lambda text: text[0] != "1"))
def test_every_name_comes_back(text: str) -> None:
    assert chain_id_to_text(chain_id_from_text_untrusted(text)) == text


@given(st.integers(-(2**31), 2**31 - 1))
def test_any_number_has_its_name_or_none(chain_id: int) -> None:
    try:
        text = chain_id_to_text(chain_id)
    except MisuseError:
        in_range = 0 <= chain_id < 2**24
        big_endian = int.from_bytes(chain_id.to_bytes(3, "little"), "big") if in_range else 0
        assert not 195112 <= big_endian <= 11316495
    else:
        assert chain_id_from_text_untrusted(text) == chain_id


@pytest.mark.parametrize("big_endian", [0, 1, 195111, 11316496, 2**24 - 1])
def test_numbers_beside_the_range_have_no_name(big_endian: int) -> None:
    chain_id = int.from_bytes(big_endian.to_bytes(3, "big"), "little")
    with pytest.raises(MisuseError, match="no name"):
        chain_id_to_text(chain_id)


@pytest.mark.parametrize("chain_id", [-1, 2**24, 2**24 + 9992731, 2**31 - 1, -(2**31)])
def test_numbers_of_more_than_three_bytes_have_no_name(chain_id: int) -> None:
    with pytest.raises(MisuseError, match="no name"):
        chain_id_to_text(chain_id)


@pytest.mark.parametrize("text", ["", "AEL", "AELFF", "1111", "1AEL", "AEL0", "AEL ", "\uff21ELF"])
def test_other_texts_are_malformed(text: str) -> None:
    with pytest.raises(MalformedError):
        chain_id_from_text_untrusted(text)


@given(st.text())
def test_any_text_is_a_name_or_malformed(text: str) -> None:
    try:
        assert chain_id_to_text(chain_id_from_text_untrusted(text)) == text
    except MalformedError:
        assert len(text) != 4 or text[0] == "1" or not set(text) <= set(ALPHABET)


@pytest.mark.parametrize(
    ("chain_id", "description"),
    [
        (9992731, "AELF (9992731)"),
        (1866392, "tDVV (1866392)"),
        (0, "0"),
        (2**24, "16777216"),
        (2**31 - 1, "2147483647"),
        (-1, "-1"),
    ],
)
def test_described_by_name_and_number(chain_id: int, description: str) -> None:
    assert describe_chain_id(chain_id) == description


def test_a_chain_id_may_be_given_as_either() -> None:
    assert resolve_chain_id("tDVV") == 1866392
    assert resolve_chain_id(1866392) == 1866392
    with pytest.raises(MisuseError, match="chain id: 'AELF!'"):
        resolve_chain_id("AELF!")
    for number in (-1, 2**31):
        with pytest.raises(MisuseError, match=f"chain id {number} is not between"):
            resolve_chain_id(number)
