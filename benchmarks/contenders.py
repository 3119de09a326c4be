"""Who can take part in the fan-out benchmarks, and one of them at work, round by round."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from types import MappingProxyType
from typing import Any

from aelf_p2p.core.options import KIB, MIB
from benchmarks.arguments import wire_name
from benchmarks.children import Child, ChildError, Children
from benchmarks.environments import LIBP2P, MAIN, PURERPC, Environment
from benchmarks.progress import progress
from benchmarks.results import OURS, Note, Parameters, Row
from benchmarks.workload import Round, Workload

GRPC, TCP, ON_PURERPC = f"{OURS} grpc", f"{OURS} tcp", f"{OURS} purerpc"
CEILING = "frames by hand"
GRPC_AIO = "grpc.aio"


@dataclass(frozen=True, kw_only=True)
class How:
    """How a contender's two processes are started."""

    sender: str
    """Its module: is given ``workload`` and ``setup``, says where it listens, and answers each
    question with a round."""
    setup: Mapping[str, Any] = field(default_factory=dict)
    receivers: str = "sinks"
    """Their module: is given ``address``, ``peers``, ``tls``, ``wire`` and ``setup``, says when all
    are connected, and answers each question with ``cpu_seconds`` and ``transactions`` so far."""
    wire: str = "grpc"
    """What the sinks speak."""
    packages: Sequence[str] = ()
    """That it needs beside ours."""
    environment: Environment = MAIN
    """Of the sender, and of receivers that are no sinks."""
    part: float = 1.0
    """Of the workload's messages: who is slow gets fewer, or nothing else would be done."""
    max_payload_bytes: int = 100 * MIB
    """It sends none larger."""
    always_secure: bool = False
    """It has no plain mode, and its own security in place of TLS."""


def _libp2p(router: str) -> How:
    return How(
        sender="fanout_libp2p",
        setup={"router": router},
        receivers="fanout_libp2p_receivers",
        packages=["libp2p"],
        environment=LIBP2P,
        part=0.01,
        always_secure=True,
    )


CONTENDERS: Mapping[str, How] = MappingProxyType(
    {
        GRPC: How(sender="fanout_ours", setup={"transport": "grpc"}),
        TCP: How(sender="fanout_ours", setup={"transport": "tcp"}, wire="tcp"),
        ON_PURERPC: How(
            sender="fanout_ours",
            setup={"transport": "purerpc"},
            packages=["purerpc"],
            environment=PURERPC,
        ),
        CEILING: How(sender="fanout_frames", max_payload_bytes=15 * KIB),
        "purerpc": How(
            sender="fanout_purerpc", packages=["purerpc"], environment=PURERPC, part=0.5
        ),
        GRPC_AIO: How(sender="fanout_grpc_aio", packages=["grpcio"], part=0.25),
        "grpclib": How(sender="fanout_grpclib", packages=["grpclib"], part=0.25),
        "grpcio threads": How(sender="fanout_grpc_threads", packages=["grpcio"], part=0.125),
        "libp2p floodsub": _libp2p("floodsub"),
        "libp2p gossipsub": _libp2p("gossipsub"),
    }
)
"""To acknowledging sinks, but for libp2p, which has its own receivers. The order is that of their
turns."""


@dataclass
class Contender:
    """A sender and its receivers, connected, and what they took so far."""

    name: str
    workload: Workload
    sender: Child
    receivers: Child
    rounds: list[Round] = field(default_factory=list)
    receivers_cpu_seconds: list[float] = field(default_factory=list)

    def warm_up(self) -> None:
        """One round that does not count."""
        self._round()

    def run_round(self) -> None:
        """One round that counts."""
        round_, receivers_cpu_seconds = self._round()
        self.rounds.append(round_)
        self.receivers_cpu_seconds.append(receivers_cpu_seconds)

    @property
    def rates(self) -> list[float]:
        """Deliveries a second, of each round."""
        return [self.workload.deliveries / each.seconds for each in self.rounds]

    def deliveries(self) -> Row:
        """Deliveries a second."""
        return self.row("deliveries", "1/s", self.rates)

    def cpu(self) -> Row:
        """CPU time of the sender for a delivery."""
        us = [each.cpu_seconds / self.workload.deliveries * 1e6 for each in self.rounds]
        return self.row("sender's CPU", "us/delivery", us)

    def receivers_cpu(self) -> Row:
        """Which part of the time the receivers computed; near 100 %, a whole core, they hold the
        sender back."""
        both = zip(self.receivers_cpu_seconds, self.rounds, strict=True)
        percents = [cpu_seconds / each.seconds * 100 for cpu_seconds, each in both]
        return self.row("receivers' CPU", "%", percents)

    def rows(self) -> list[Row]:
        """All of these."""
        return [self.deliveries(), self.cpu(), self.receivers_cpu()]

    def row(self, figure: str, unit: str, rounds: Iterable[float]) -> Row:
        """One figure of this contender under its workload."""
        parameters: Parameters = {
            "wire": wire_name(self.workload.tls),
            "payload": self.workload.payload_bytes,
            "peers": self.workload.peers,
        }
        return Row(
            contender=self.name,
            parameters=parameters,
            figure=figure,
            unit=unit,
            rounds=tuple(rounds),
        )

    def _round(self) -> tuple[Round, float]:
        """Raises ChildError when not everything has arrived."""
        before = self.receivers.ask("so far")
        round_ = Round(**self.sender.ask("round"))
        after = self.receivers.ask("so far")
        arrived = after["transactions"] - before["transactions"]
        if arrived != self.workload.deliveries:
            raise ChildError(f"{self.name}: {arrived} of {self.workload.deliveries} arrived")
        return round_, after["cpu_seconds"] - before["cpu_seconds"]


@contextmanager
def connected(name: str, how: How, workload: Workload) -> Iterator[Contender]:
    """The two processes of a contender, warm, as long as the block. Raises ChildError."""
    wire = wire_name(workload.tls)
    progress(f"{name}, {wire}, {workload.peers} peers, {workload.payload_bytes} bytes: connecting")
    workload = replace(workload, messages=max(1, round(workload.messages * how.part)))
    with Children() as children:
        sender = children.start(
            f"{name}'s sender",
            how.sender,
            {"workload": asdict(workload), **how.setup},
            environment=how.environment,
        )
        receivers = children.start(
            f"{name}'s receivers",
            how.receivers,
            {
                "address": sender.receive(),
                "peers": workload.peers,
                "tls": workload.tls,
                "wire": how.wire,
                **how.setup,
            },
            environment=MAIN if how.receivers == "sinks" else how.environment,
        )
        receivers.receive()
        contender = Contender(name, workload, sender, receivers)
        contender.warm_up()
        yield contender


def join(stack: ExitStack, name: str, how: How, workload: Workload) -> Contender | Note:
    """Connect a contender until the stack ends; a note when it is a rival that cannot run here.

    Raises ChildError when it is one of ours.
    """
    if missing := how.environment.missing(how.packages):
        return Note(name, f"left out: {missing}")
    if workload.payload_bytes > how.max_payload_bytes:
        return Note(name, f"left out: sends at most {how.max_payload_bytes:,} bytes a message")
    try:
        return stack.enter_context(connected(name, how, workload))
    except ChildError as exc:
        if name.startswith(OURS):
            raise
        return Note(name, f"left out: {exc}")


def take_turns(contenders: Sequence[Contender], rounds: int) -> None:
    """Let each measure so many rounds, one after the other, round by round."""
    for number in range(1, rounds + 1):
        for contender in contenders:
            contender.run_round()
        rates = ", ".join(
            f"{each.name} to {each.workload.peers} {each.rates[-1]:,.0f}" for each in contenders
        )
        progress(f"round {number} of {rounds}, deliveries/s: {rates}")
