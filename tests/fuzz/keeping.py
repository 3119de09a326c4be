"""What of a target's corpus is kept in the repository."""

import shutil
import subprocess

from tests.fuzz.campaign import CHILD, ROOT, WORK, shared_flags
from tests.fuzz.harness import load, write_inputs

KEPT_BYTES = 8_000  # of a target
KEPT_INPUT_BYTES = 1_500  # of one input


def keep(name: str) -> tuple[int, int]:
    """Choose anew what is kept of a target's corpus in the repository; how many inputs, and bytes.

    As few as reach all that the inputs at hand reach, the small ones first, up to ``KEPT_BYTES``.
    """
    harness = load(name)
    merged = WORK / "merged" / name
    shutil.rmtree(merged, ignore_errors=True)
    merged.mkdir(parents=True)
    known = [path for path in (harness.kept, WORK / "corpus" / name) if path.is_dir()]
    subprocess.run(
        [
            *(*CHILD, name, "-merge=1"),
            *(*shared_flags(harness), str(merged), *map(str, known)),
        ],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    seeds = set(harness.seeds())
    room = KEPT_BYTES
    inputs: list[bytes] = []
    for data in sorted((path.read_bytes() for path in merged.iterdir()), key=len):
        if data in seeds or len(data) > min(room, KEPT_INPUT_BYTES):
            continue
        inputs.append(data)
        room -= len(data)
    shutil.rmtree(harness.kept, ignore_errors=True)
    write_inputs(harness.kept, inputs)
    return len(inputs), KEPT_BYTES - room
