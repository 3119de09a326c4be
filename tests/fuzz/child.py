"""One target under atheris, until it finds something or its time is up.

``python -m tests.fuzz.child TARGET [FLAG ...]``, with libFuzzer's flags and directories. The runner
starts it, in a process of its own: libFuzzer ends the process that it runs in.
"""

import shlex
import sys
from collections.abc import Sequence
from random import Random

import atheris

from tests.fuzz.imported import instrumented, left_alone

INSTRUMENTED_COST = 3
"""So many times longer takes what is instrumented; measured with HTTP/2 frames."""


def main(arguments: Sequence[str]) -> None:
    """Fuzz; does not return."""
    name, *flags = arguments
    with atheris.instrument_imports(include=instrumented(name), exclude=left_alone(name)):
        from tests.fuzz.harness import load

        harness = load(name)
        for data in harness.seeds():
            harness.run(data)  # what is imported at first use is instrumented too
    from tests.fuzz.rules import MAX_CPU_S, check

    mutate = harness.mutate

    def change(data: bytes, most: int) -> bytes:
        changed: bytes = atheris.Mutate(data, most)  # looked up now: Fuzz() puts the real one there
        return changed

    def mutated(data: bytes, most: int, seed: int) -> bytes:
        assert mutate is not None
        return mutate(data, most, Random(seed), change)

    def run(data: bytes) -> None:
        check(harness.run, data, max_cpu_s=MAX_CPU_S * INSTRUMENTED_COST)

    custom = {"custom_mutator": mutated} if mutate is not None else {}
    # To merge corpora libFuzzer starts itself anew, by a shell, with what it takes for its name.
    command = shlex.join([sys.executable, "-m", "tests.fuzz.child", name])
    atheris.Setup([command, *flags], run, **custom)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1:])
