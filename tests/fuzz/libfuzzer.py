"""What libFuzzer tells of a run, line by line."""

import re
from dataclasses import dataclass

_STATUS = re.compile(r"#(\d+)\s+(\w+)\s+cov: (\d+) ft: (\d+) corp: (\d+)")
_STATISTIC = re.compile(r"stat::(\w+):\s+(\d+)")
_ARTIFACT = re.compile(r"Test unit written to (\S+)")
_UNCAUGHT = "Uncaught Python exception"
_ERROR = re.compile(r"==\d+== ?ERROR: libFuzzer: (.*)")


@dataclass(slots=True)
class Progress:
    """How far a run is."""

    executions: int = 0
    edges_at_first: int = 0
    edges: int = 0
    features_at_first: int = 0
    features: int = 0
    new_inputs: int = 0
    """Found and kept, because they reach something new."""
    problem: str = ""
    """What was found: an exception that nothing allows, or libFuzzer's own complaint."""
    artifact: str = ""
    """The file with the input that shows it."""
    _exception_follows: bool = False

    def take(self, line: str) -> None:
        """The next line that libFuzzer, or a traceback, has written."""
        if self._exception_follows:
            self._exception_follows = False
            self.problem = line.strip()
        elif _UNCAUGHT in line:
            self._exception_follows = True
        elif match := _STATUS.match(line):
            self._take_status(match)
        elif match := _STATISTIC.match(line):
            self._take_statistic(match[1], int(match[2]))
        elif match := _ARTIFACT.search(line):
            self.artifact = match[1]
        elif match := _ERROR.match(line):
            self.problem = self.problem or match[1]

    def _take_status(self, match: re.Match[str]) -> None:
        self.executions = int(match[1])
        self.edges, self.features = int(match[3]), int(match[4])
        if match[2] == "INITED":
            self.edges_at_first, self.features_at_first = self.edges, self.features
        elif match[2] == "NEW":
            self.new_inputs += 1

    def _take_statistic(self, name: str, value: int) -> None:
        if name == "number_of_executed_units":
            self.executions = value
