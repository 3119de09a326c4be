"""Broadcast fan-out beside grpc.aio: ``python -m benchmarks.fanout --help``.

Senders take turns, round by round, so that what else the machine does meets them all alike. Each
round's ratio is of two neighbours in time.
"""

import argparse
import json
import os
import platform
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from statistics import median

from aelf_p2p.core.errors import MisuseError
from benchmarks.children import Child, ChildError, Target, running
from benchmarks.ours import run_ours
from benchmarks.rival_grpc_aio import run_rival
from benchmarks.sinks import run_sinks
from benchmarks.workload import Round, TransactionSource, Workload

OURS, RIVAL = "aelf-p2p", "grpc.aio"
SENDERS: dict[str, Target] = {OURS: run_ours, RIVAL: run_rival}
PACKAGES = ("trio", "h2", "protobuf", "grpcio")


@dataclass
class Contender:
    """A sender and its sinks, connected, and what they took so far."""

    name: str
    workload: Workload
    sender: Child
    sinks: Child
    rounds: list[Round] = field(default_factory=list)
    sinks_cpu_seconds: list[float] = field(default_factory=list)

    def warm_up(self) -> None:
        """One round that does not count."""
        self.sender.ask("round")

    def run_round(self) -> None:
        """One round that counts."""
        before = self.sinks.ask("CPU seconds")
        self.rounds.append(self.sender.ask("round"))
        self.sinks_cpu_seconds.append(self.sinks.ask("CPU seconds") - before)

    @property
    def rates(self) -> list[float]:
        """Deliveries a second, of each round."""
        return [self.workload.deliveries / each.seconds for each in self.rounds]

    @property
    def cpu_us(self) -> float:
        """CPU microseconds of the sender for a delivery, the median."""
        return median(each.cpu_seconds for each in self.rounds) / self.workload.deliveries * 1e6

    @property
    def sinks_busy(self) -> float:
        """Which part of the time the sinks computed, the median; 1 is a whole core."""
        return median(
            cpu_seconds / each.seconds
            for cpu_seconds, each in zip(self.sinks_cpu_seconds, self.rounds, strict=True)
        )


@contextmanager
def connected(name: str, workload: Workload) -> Iterator[Contender]:
    """The two processes of a contender, warm, as long as the block."""
    progress(f"{name}, {'TLS' if workload.tls else 'plain'}: connecting")
    with running(f"{name}'s sender", SENDERS[name], workload, 0) as sender:
        port = sender.receive()
        with running(f"{name}'s sinks", run_sinks, workload, port) as sinks:
            sinks.receive()
            contender = Contender(name, workload, sender, sinks)
            contender.warm_up()
            yield contender


def measure(workload: Workload, rounds: int) -> dict[str, Contender]:
    """Run all senders in turns, and then let them go."""
    with ExitStack() as stack:
        contenders = {name: stack.enter_context(connected(name, workload)) for name in SENDERS}
        for number in range(1, rounds + 1):
            for contender in contenders.values():
                contender.run_round()
            rates = ", ".join(f"{each.name} {each.rates[-1]:,.0f}" for each in contenders.values())
            progress(f"round {number} of {rounds}: {rates} deliveries/s")
    return contenders


def ratios(contenders: dict[str, Contender]) -> list[float]:
    """Ours to grpc.aio, round by round."""
    both = zip(contenders[OURS].rates, contenders[RIVAL].rates, strict=True)
    return [ours / rival for ours, rival in both]


def table(results: Sequence[dict[str, Contender]]) -> str:
    """What people read."""
    lines = [
        "               deliveries/s                         sender's CPU   sinks'",
        "               median        min        max         us/delivery    CPU",
    ]
    for contenders in results:
        for each in contenders.values():
            wire = "TLS" if each.workload.tls else "plain"
            lines.append(
                f"{wire:<6}{each.name:<9}{median(each.rates):>9,.0f}{min(each.rates):>11,.0f}"
                f"{max(each.rates):>11,.0f}{each.cpu_us:>16.2f}{each.sinks_busy:>13.0%}"
            )
        found = ratios(contenders)
        cpu = contenders[RIVAL].cpu_us / contenders[OURS].cpu_us
        lines.append(
            f"      ratio    {median(found):>8.1f}x{min(found):>10.1f}x{max(found):>10.1f}x"
            f"{cpu:>15.1f}x"
        )
    return "\n".join(lines)


def as_json(results: Sequence[dict[str, Contender]]) -> str:
    """Everything measured, and on what."""
    return json.dumps(
        {
            "python": platform.python_version(),
            "packages": {name: version(name) for name in PACKAGES},
            "cores": os.cpu_count(),
            "contenders": [
                {
                    "name": each.name,
                    "workload": asdict(each.workload),
                    "rounds": [asdict(one) for one in each.rounds],
                    "sinks_cpu_seconds": each.sinks_cpu_seconds,
                    "deliveries_per_second": median(each.rates),
                }
                for contenders in results
                for each in contenders.values()
            ],
            "ratios": [
                {"tls": contenders[OURS].workload.tls, "rounds": ratios(contenders)}
                for contenders in results
            ],
        },
        indent=2,
    )


def progress(text: str) -> None:
    """Tell whoever waits."""
    print(text, file=sys.stderr, flush=True)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is below 1")
    return number


def _payload(text: str) -> int:
    size = _positive(text)
    try:
        TransactionSource(size)
    except MisuseError as exc:
        raise argparse.ArgumentTypeError(str(exc)) from exc
    return size


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.fanout",
        description="Broadcast transactions to acknowledging peers, beside grpc.aio in one run.",
    )
    add = parser.add_argument
    add("--peers", type=_positive, default=16, help="how many receive each (%(default)s)")
    add("--payload", type=_payload, default=300, help="bytes of a transaction (%(default)s)")
    add("--rounds", type=_positive, default=5, help="measured rounds (%(default)s)")
    add("--messages", type=_positive, default=4000, help="transactions a round (%(default)s)")
    add("--json", type=Path, metavar="FILE", help="write everything measured there too")
    wires = parser.add_mutually_exclusive_group()
    for name, value, text in (
        ("--plain", (False,), "only without TLS"),
        ("--tls", (True,), "only with TLS"),
        ("--both", (False, True), "one after the other (the default)"),
    ):
        wires.add_argument(name, dest="wires", action="store_const", const=value, help=text)
    parser.set_defaults(wires=(False, True))
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> int:
    """Run the command; its exit status."""
    options = parse_arguments(arguments)
    try:
        results = [
            measure(
                Workload(
                    peers=options.peers,
                    payload_bytes=options.payload,
                    messages=options.messages,
                    tls=tls,
                ),
                options.rounds,
            )
            for tls in options.wires
        ]
    except ChildError as exc:
        progress(f"failed: {exc}")
        return 1
    except KeyboardInterrupt:
        progress("stopped")
        return 130
    print(
        f"{options.peers} peers, {options.payload} bytes, {options.messages:,} transactions a "
        f"round, {options.rounds} rounds, {os.cpu_count()} cores\n\n{table(results)}"
    )
    if options.json is not None:
        options.json.write_text(as_json(results) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
