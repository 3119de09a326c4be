"""What the options of the benchmarks have in common."""

from argparse import ArgumentParser, ArgumentTypeError, Namespace
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Sized:
    """The default of an option that is smaller with ``--quick``."""

    full: Any
    quick: Any

    def __str__(self) -> str:
        return f"{_text(self.full)}; quick: {_text(self.quick)}"


def settle(options: Namespace) -> Namespace:
    """Replace each ``Sized`` by what ``options.quick`` asks for."""
    settled = {
        name: (value.quick if options.quick else value.full) if isinstance(value, Sized) else value
        for name, value in vars(options).items()
    }
    return Namespace(**settled)


def positive(text: str) -> int:
    """A type of arguments: 1 or more."""
    number = int(text)
    if number < 1:
        raise ArgumentTypeError(f"{number} is below 1")
    return number


def positives(text: str) -> tuple[int, ...]:
    """A type of arguments: numbers with commas between."""
    return tuple(positive(part) for part in text.split(","))


def add_rounds(parser: ArgumentParser, full: int, quick: int) -> None:
    """``--rounds``: how often each contender has its turn."""
    parser.add_argument(
        "--rounds",
        type=positive,
        default=Sized(full, quick),
        help="measured rounds of each contender (%(default)s)",
    )


def add_wires(parser: ArgumentParser, default: tuple[bool, ...] = (False, True)) -> None:
    """``--plain``, ``--tls`` and ``--both``: ``options.wires`` is whether TLS is used, in turn."""
    wires = parser.add_mutually_exclusive_group()
    for name, value, what in (
        ("--plain", (False,), "only without TLS"),
        ("--tls", (True,), "only with TLS"),
        ("--both", (False, True), "one after the other"),
    ):
        text = f"{what} (the default)" if value == default else what
        wires.add_argument(name, dest="wires", action="store_const", const=value, help=text)
    parser.set_defaults(wires=default)


def wire_name(tls: bool) -> str:
    """As tables have it."""
    return "TLS" if tls else "plain"


def _text(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
