"""What of a target's corpus is kept in the repository."""

import shutil
import subprocess

from tests.fuzz.campaign import CHILD, ROOT, WORK, shared_flags
from tests.fuzz.harness import load, write_inputs

KEPT_BYTES = 8_000  # of a target
KEPT_INPUT_BYTES = 1_500  # of one input


def keep(name: str) -> tuple[int, int]:
    """Choose anew what is kept of a target; how many inputs, and bytes.

    Of the small inputs at hand as few as reach all that these reach, up to ``KEPT_BYTES``.
    """
    harness = load(name)
    small, chosen = WORK / "small" / name, WORK / "chosen" / name
    for directory in (small, chosen):
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
    for path in [*harness.kept.glob("*"), *(WORK / "corpus" / name).glob("*")]:
        if path.stat().st_size <= KEPT_INPUT_BYTES:
            shutil.copy(path, small)
    subprocess.run(
        [
            *(*CHILD, name, "-set_cover_merge=1"),
            *(*shared_flags(harness), str(chosen), str(small)),
        ],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    seeds = set(harness.seeds())
    room = KEPT_BYTES
    inputs: list[bytes] = []
    for data in sorted((path.read_bytes() for path in chosen.iterdir()), key=len):
        if data not in seeds and len(data) <= room:
            inputs.append(data)
            room -= len(data)
    shutil.rmtree(harness.kept, ignore_errors=True)
    if inputs:
        write_inputs(harness.kept, inputs)
    return len(inputs), KEPT_BYTES - room
