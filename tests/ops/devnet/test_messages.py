"""What goes over the pipes between a devnet's nodes and their driver."""

import json
from itertools import cycle

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import memory_stream_pair, wait_all_tasks_blocked

from aelf_p2p.core.errors import MalformedError
from aelf_p2p.ops.devnet import messages
from aelf_p2p.ops.devnet.messages import Lines


@given(st.lists(st.integers(1, 40), min_size=1), st.lists(st.text(max_size=9), max_size=9))
def test_messages_come_whole_however_they_are_cut(cuts: list[int], texts: list[str]) -> None:
    sent = [{"event": text} for text in texts]
    data = "".join(f"{json.dumps(message)}\n" for message in sent).encode()

    async def receive() -> list[dict[str, object]]:
        ours, theirs = memory_stream_pair()
        received = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send_in_pieces, ours, data, cuts)
            lines = Lines(theirs)
            while (message := await lines.receive()) is not None:
                received.append(message)
        return received

    assert trio.run(receive) == sent


async def send_in_pieces(stream: trio.abc.SendStream, data: bytes, cuts: list[int]) -> None:
    for cut in cycle(cuts):
        if not data:
            break
        await stream.send_all(data[:cut])
        data = data[cut:]
        await wait_all_tasks_blocked()
    await stream.aclose()


@pytest.mark.parametrize("line", [b"node 1 is up\n", b"[1]\n", b"\xff\n", b"x" * 101])
async def test_what_is_no_message_is_malformed(
    line: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(messages, "MAX_LINE_BYTES", 100)
    ours, theirs = memory_stream_pair()
    await ours.send_all(line)
    with pytest.raises(MalformedError):
        await Lines(theirs).receive()


async def test_a_line_that_is_cut_off_is_the_end() -> None:
    ours, theirs = memory_stream_pair()
    await ours.send_all(b'{"event": "st')
    await ours.aclose()
    assert await Lines(theirs).receive() is None
