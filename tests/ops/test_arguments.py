"""Options' values: what they may be, and what is said of others."""

from argparse import ArgumentTypeError
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aelf_p2p.core.endpoint import Endpoint
from aelf_p2p.ops import arguments
from aelf_p2p.ops.arguments import (
    Parser,
    add_chain_id,
    chain_id,
    endpoint,
    listen_address,
    named_path,
    new_file,
    public_key,
    seconds,
    whole_number,
)
from aelf_p2p.testing.vectors import load_vectors

KEYS = load_vectors().keys


def refusal(parse: Callable[[str], Any], text: str) -> str:
    """What is said of a value that is wrong."""
    with pytest.raises(ArgumentTypeError) as caught:
        parse(text)
    return str(caught.value)


# --- numbers --------------------------------------------------------------------------------------


@given(st.integers(-5, 15))
def test_numbers_within_their_bounds(number: int) -> None:
    if 1 <= number <= 10:
        assert whole_number(1, 10)(str(number)) == number
    else:
        assert refusal(whole_number(1, 10), str(number)) == f"{number} is not between 1 and 10"


@pytest.mark.parametrize("text", ["", "ten", "1.0", "1e1", "0x1", "1 0", "1_0", "-", "٣"])
def test_other_texts_are_no_numbers(text: str) -> None:
    assert refusal(whole_number(1, 10), text) == f"{text!r} is not a whole number"


def test_a_number_that_is_too_long_to_show() -> None:
    said = f"{'9' * 40}… is not between 1 and 10"
    assert refusal(whole_number(1, 10), "9" * 10_000) == said


@given(st.floats(1e-6, 1e6))
def test_times(number: float) -> None:
    assert seconds(f"{number:.20f}") == pytest.approx(number)


@pytest.mark.parametrize(("text", "number"), [("1", 1), ("0.25", 0.25), (".5", 0.5), ("3.", 3)])
def test_times_as_people_write_them(text: str, number: float) -> None:
    assert seconds(text) == number


@pytest.mark.parametrize("text", ["", "soon", "-1", "+1", "1_0", "1e3", "inf", "nan", " 1", "٣"])
def test_no_times(text: str) -> None:
    assert refusal(seconds, text) == f"{text!r} is not a number of seconds"


@pytest.mark.parametrize("text", ["0", "0.0", "9" * 400])
def test_times_that_never_come_or_have_gone(text: str) -> None:
    assert refusal(seconds, text).endswith(" is not above 0 and finite")


# --- chains ---------------------------------------------------------------------------------------


def test_a_chain_by_name_or_number() -> None:
    for vector in load_vectors().chain_ids:
        assert chain_id(vector.text) == vector.value
        assert chain_id(str(vector.value)) == vector.value
    assert chain_id("0") == 0
    assert chain_id("2111") == 2111  # which would be a name too
    assert chain_id("2147483647") == 2**31 - 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "'' is not a chain name"),
        ("aelf0", "'aelf0' is not a chain name"),
        ("1AEL", "'1AEL' is not a chain name"),
        ("-1", "'-1' is not a chain name"),
        ("2147483648", "chain id 2147483648 is not between 0 and 2147483647"),
        ("9" * 5000, f"chain id {'9' * 40}… is not between 0 and 2147483647"),
        ("x" * 5000, "'xxxxxxxxxxxxxxxx' is not a chain name"),
    ],
)
def test_no_chain(text: str, message: str) -> None:
    assert message in refusal(chain_id, text)


def test_aelf_is_the_chain_unless_told_otherwise() -> None:
    parser = Parser()
    add_chain_id(parser)
    assert parser.parse_args([]).chain_id == 9992731
    assert parser.parse_args(["--chain-id", "tDVV"]).chain_id == 1866392


# --- places ---------------------------------------------------------------------------------------


def test_endpoints() -> None:
    assert endpoint("node.example.com:7000") == Endpoint("node.example.com", 7000)
    assert endpoint("node.example.com") == Endpoint("node.example.com", 6800)
    assert endpoint("[::1]:1") == Endpoint("::1", 1)
    assert refusal(endpoint, "host:70000") == "port 70000 is not between 1 and 65535"
    assert refusal(endpoint, "host:0") == "port 0 is not between 1 and 65535"
    assert refusal(endpoint, "a:b:c") == "'a:b:c' is not a host"
    assert refusal(endpoint, "host:http") == "'http' is not a port"


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("0.0.0.0", "0.0.0.0", 6800),
        ("127.0.0.1:0", "127.0.0.1", 0),
        ("localhost:65535", "localhost", 65535),
        ("[::]:7000", "::", 7000),
        ("::1", "::1", 6800),
        ("[fe80::1%eth0]:7000", "fe80::1%eth0", 7000),
    ],
)
def test_where_to_listen(text: str, host: str, port: int) -> None:
    assert listen_address(text) == (host, port)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("127.0.0.1:70000", "port 70000 is not between 0 and 65535"),
        ("127.0.0.1:65536", "port 65536 is not between 0 and 65535"),
        ("127.0.0.1:-1", "'-1' is not a port"),
        ("127.0.0.1:", "'' is not a port"),
        ("[::1", "'[::1' is not [address] or [address]:port"),
        ("", "'' names no host"),
        (":6800", "':6800' names no host"),
    ],
)
def test_where_nobody_can_listen(text: str, message: str) -> None:
    assert refusal(listen_address, text) == message


def test_paths(tmp_path: Path) -> None:
    assert named_path("data") == Path("data")
    assert new_file(f"{tmp_path}/key") == tmp_path / "key"
    for parse in (named_path, new_file):
        assert refusal(parse, "") == "an empty path names nothing"
    assert refusal(new_file, str(tmp_path)) == f"{tmp_path}: exists already and is left as it is"


# --- keys -----------------------------------------------------------------------------------------


def test_keys_in_hex() -> None:
    for key in KEYS:
        assert public_key(key.public_key.hex()) == key.public_key
        assert public_key(key.public_key.hex().upper()) == key.public_key
    assert public_key("00" * 32) == bytes(32)  # of Ed25519


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "a key of 0 bytes is of no known scheme"),
        ("04", "a key of 1 bytes is of no known scheme"),
        (KEYS[0].public_key.hex()[:-2], "a key of 64 bytes is of no known scheme"),
        ("02" + KEYS[0].public_key.hex()[2:66], "a key of 33 bytes is of no known scheme"),
        ("05" + KEYS[0].public_key.hex()[2:], "a key of 65 bytes is of no known scheme"),
        ("123", "'123' is not hex"),
        (KEYS[0].address, f"'{KEYS[0].address[:16]}' is not hex"),
    ],
)
def test_no_keys(text: str, message: str) -> None:
    assert refusal(public_key, text) == message


@pytest.mark.parametrize(
    "parse",
    [whole_number(1, 10), chain_id, endpoint, listen_address, public_key],
    ids=["number", "chain", "endpoint", "place", "key"],
)
@given(text=st.text() | st.text("0123456789abcdef[]:."))
def test_any_text_is_a_value_or_refused(parse: Callable[[str], Any], text: str) -> None:
    with suppress(ArgumentTypeError):
        parse(text)


# --- the parser -----------------------------------------------------------------------------------


def told(capsys: pytest.CaptureFixture[str], parser: Parser, *given: str) -> str:
    """What a parser says of wrong arguments."""
    with pytest.raises(SystemExit) as ended:
        parser.parse_args(given)
    assert ended.value.code == 2
    said = capsys.readouterr()
    assert said.out == ""
    return said.err


def test_what_is_wrong_is_told_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    parser = Parser(prog="program")
    parser.add_argument("--size", type=whole_number(1, 10))
    assert told(capsys, parser, "--size", "11") == (
        "program: argument --size: 11 is not between 1 and 10 (see program --help)\n"
    )
    assert told(capsys, parser, "--sise", "1") == (
        "program: unrecognized arguments: --sise 1 (see program --help)\n"
    )


def test_commands_are_parsed_likewise(capsys: pytest.CaptureFixture[str]) -> None:
    parser = Parser(prog="program")
    commands: arguments.Commands = parser.add_subparsers(metavar="COMMAND", required=True)
    command = commands.add_parser("make")
    assert isinstance(command, Parser)
    command.add_argument("--where", type=endpoint)
    assert told(capsys, parser, "make", "--where", "here:there") == (
        "program make: argument --where: 'there' is not a port (see program make --help)\n"
    )
