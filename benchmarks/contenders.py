"""Who sends in the fan-out benchmarks: a sender and its sinks, connected, round by round."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field

from benchmarks.arguments import wire_name
from benchmarks.children import Child, Children
from benchmarks.environments import MAIN, Environment
from benchmarks.results import Parameters, Row
from benchmarks.workload import Round, Workload


@dataclass(frozen=True)
class Sender:
    """How one contender's sender is started."""

    module: str
    packages: Sequence[str] = ()
    """That it needs beside ours, of its environment."""
    environment: Environment = MAIN


CONTENDERS: Mapping[str, Sender] = {
    "aelf-p2p grpc": Sender("fanout_ours"),
    "grpc.aio": Sender("fanout_grpc_aio", ["grpcio"]),
}


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
        self.rounds.append(Round(**self.sender.ask("round")))
        self.sinks_cpu_seconds.append(self.sinks.ask("CPU seconds") - before)

    @property
    def rates(self) -> list[float]:
        """Deliveries a second, of each round."""
        return [self.workload.deliveries / each.seconds for each in self.rounds]

    def deliveries(self) -> Row:
        """Deliveries a second."""
        return self._row("deliveries", "1/s", self.rates)

    def cpu(self) -> Row:
        """CPU time of the sender for a delivery."""
        us = [each.cpu_seconds / self.workload.deliveries * 1e6 for each in self.rounds]
        return self._row("sender's CPU", "us/delivery", us)

    def sinks_cpu(self) -> Row:
        """Which part of the time the sinks computed; 100 % is a whole core, and too much."""
        both = zip(self.sinks_cpu_seconds, self.rounds, strict=True)
        return self._row("sinks' CPU", "%", [cpu / each.seconds * 100 for cpu, each in both])

    def _row(self, figure: str, unit: str, rounds: Sequence[float]) -> Row:
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


@contextmanager
def connected(name: str, workload: Workload) -> Iterator[Contender]:
    """The two processes of a contender, warm, as long as the block."""
    how = CONTENDERS[name]
    with Children() as children:
        sender = children.start(
            f"{name}'s sender", how.module, asdict(workload), environment=how.environment
        )
        setup = {"port": sender.receive(), "peers": workload.peers, "tls": workload.tls}
        sinks = children.start(f"{name}'s sinks", "sinks", setup)
        sinks.receive()
        contender = Contender(name, workload, sender, sinks)
        contender.warm_up()
        yield contender
