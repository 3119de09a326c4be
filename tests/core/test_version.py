from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aelf_p2p.core.errors import MalformedError, MisuseError
from aelf_p2p.core.version import STREAM_VERSION, NodeVersion, uses_stream

BIGGEST = 2**31 - 1
part = st.integers(0, BIGGEST)
versions = st.lists(part, min_size=2, max_size=4).map(lambda parts: NodeVersion(*parts))


def test_text_of_two_to_four_numbers() -> None:
    assert NodeVersion.parse_untrusted("1.4") == NodeVersion(1, 4, -1, -1)
    assert NodeVersion.parse_untrusted("1.4.0") == NodeVersion(1, 4, 0, -1)
    assert NodeVersion.parse_untrusted("1.12.3.0") == NodeVersion(1, 12, 3, 0)
    assert NodeVersion.parse_untrusted("01.004") == NodeVersion(1, 4)
    longest = ".".join([str(BIGGEST)] * 4)
    assert NodeVersion.parse_untrusted(longest) == NodeVersion(*[BIGGEST] * 4)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1",
        "1.",
        ".1",
        "1..2",
        "1.2.3.4.5",
        "1.-1",
        "+1.4",
        " 1.4",
        "1.4\n",
        "1.x",
        "1,4",
        "1.4-beta",
        "1.٤",
        "1.2147483648",
        "4294967297.0",
        "0" * 41 + "1.4",
        "1." * 100_000,
    ],
)
def test_other_texts_are_malformed_and_old(text: str) -> None:
    with pytest.raises(MalformedError):
        NodeVersion.parse_untrusted(text)
    assert uses_stream(text) is False


@given(versions)
def test_texts_come_back(version: NodeVersion) -> None:
    assert NodeVersion.parse_untrusted(str(version)) == version


@given(st.text("0123456789.+- ") | st.text())
def test_any_text_is_a_version_or_malformed(text: str) -> None:
    try:
        version = NodeVersion.parse_untrusted(text)
    except MalformedError:
        assert uses_stream(text) is False
    else:
        assert [int(number) for number in text.split(".")] == [
            int(number) for number in str(version).split(".")
        ]


def test_order_is_dotnets() -> None:
    texts = ["0.9.9.9", "1.3.99.99", "1.4", "1.4.0", "1.4.0.0", "1.4.0.1", "1.4.1", "1.10", "2.0"]
    parsed = [NodeVersion.parse_untrusted(text) for text in texts]
    assert all(low < high for low, high in pairwise(parsed))
    assert sorted([*parsed[4:], *parsed[:4]]) == parsed


@given(versions, versions)
def test_order_is_total(one: NodeVersion, other: NodeVersion) -> None:
    assert (one < other) + (one == other) + (one > other) == 1
    assert (one <= other) == (not other < one)


@pytest.mark.parametrize(
    ("text", "stream"),
    [
        ("1.4", False),
        ("1.4.0", False),
        ("1.3.9.9", False),
        ("1.4.0.0", True),
        ("1.4.1", True),
        ("1.12.3.0", True),
        ("2.0", True),
    ],
)
def test_uses_stream(text: str, stream: bool) -> None:
    assert uses_stream(text) is stream
    assert str(STREAM_VERSION) == "1.4.0.0"


@pytest.mark.parametrize(
    "parts", [(-1, 0), (0, -1), (1, 4, -1, 0), (1, 4, -2), (2**31, 0), (1, 4, 0, 2**31)]
)
def test_impossible_numbers_are_misuse(parts: tuple[int, ...]) -> None:
    with pytest.raises(MisuseError, match="not a version"):
        NodeVersion(*parts)
