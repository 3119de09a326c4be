"""How much more Python holds after an attack than before."""

import gc
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def growth_at_most(most_bytes: int) -> Iterator[None]:
    """Of what Python holds for the block, from its beginning to its end."""
    gc.collect()
    tracemalloc.start()
    try:
        yield
        gc.collect()
        held_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held_bytes <= most_bytes
