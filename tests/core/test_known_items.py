"""Known items against a plain dictionary, and bits that no two peers share."""

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from aelf_p2p.core.known_items import KnownItems, PeerBits

TTL = 10
HASHES = [bytes([number]) * 32 for number in range(9)]

hashes = st.sampled_from(HASHES)
masks = st.integers(0, 15)


class KnownItemsMachine(RuleBasedStateMachine):
    @initialize(capacity=st.integers(1, 6))
    def start(self, capacity: int) -> None:
        self.capacity = capacity
        self.items = KnownItems(capacity, TTL)
        self.model: dict[bytes, tuple[int, int]] = {}  # when made, mask; oldest first
        self.now = 1000

    def expire(self) -> None:
        self.model = {
            hash_: (made, mask)
            for hash_, (made, mask) in self.model.items()
            if self.now - made < TTL
        }

    @rule(seconds=st.sampled_from([1, 2, 5, 9, 10, 11]))
    def wait(self, seconds: int) -> None:
        self.now += seconds

    @rule(hash_=hashes, mask=masks)
    def add(self, hash_: bytes, mask: int) -> None:
        self.expire()
        made, before = self.model.get(hash_, (self.now, 0))
        if hash_ not in self.model and len(self.model) == self.capacity:
            del self.model[next(iter(self.model))]
        self.model[hash_] = made, before | mask
        news = any(mask & 1 << bit and not before & 1 << bit for bit in range(4))
        assert self.items.add(hash_, mask, self.now) is news
        assert self.items.mask(hash_, self.now) == before | mask  # there was room for it

    @rule(hash_=hashes)
    def look_up(self, hash_: bytes) -> None:
        self.expire()
        assert self.items.mask(hash_, self.now) == self.model.get(hash_, (0, 0))[1]

    @rule()
    def look_all_up(self) -> None:
        self.expire()
        found = {hash_: self.items.mask(hash_, self.now) for hash_ in HASHES}
        assert found == {hash_: self.model.get(hash_, (0, 0))[1] for hash_ in HASHES}
        assert len(self.items) == len(self.model)

    @invariant()
    def bounded(self) -> None:
        assert len(self.items) <= self.capacity


TestKnownItems = KnownItemsMachine.TestCase
TestKnownItems.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_the_oldest_goes_when_full() -> None:
    items = KnownItems(2, 100.0)
    for number in (0, 1):
        assert items.add(HASHES[number], 1, 0.0)
    items.add(HASHES[0], 2, 1.0)  # does not make it younger
    assert items.add(HASHES[2], 1, 2.0)
    assert [items.mask(hash_, 2.0) for hash_ in HASHES[:3]] == [0, 1, 1]


def test_new_items_find_room_in_a_flood() -> None:
    items = KnownItems(1000, 10.0)
    for number in range(20_000):
        assert items.add(number.to_bytes(32), 1, number / 20_000)
    assert len(items) == 1000
    assert items.mask((19_999).to_bytes(32), 1.0) == 1
    assert items.mask((18_999).to_bytes(32), 1.0) == 0


def test_an_entry_lives_as_long_as_it_says() -> None:
    items = KnownItems(10, 100.0)
    items.add(HASHES[0], 5, 50.0)
    assert items.mask(HASHES[0], 149.9) == 5
    assert items.mask(HASHES[0], 150.0) == 0
    assert len(items) == 0


# --- bits -----------------------------------------------------------------------------------------


class PeerBitsMachine(RuleBasedStateMachine):
    """Peers come, get to know items, and go; a newcomer must know nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.bits = PeerBits(TTL)
        self.items = KnownItems(100, TTL)
        self.held: list[int] = []
        self.given_back: dict[int, int] = {}
        self.most_held = 0
        self.now = 0

    @rule(seconds=st.sampled_from([1, 3, 9, 10]))
    def wait(self, seconds: int) -> None:
        self.now += seconds

    @precondition(lambda self: len(self.held) < 20)
    @rule()
    def come(self) -> None:
        rested = {bit for bit, at in self.given_back.items() if self.now - at >= TTL}
        bit = self.bits.acquire(self.now)
        assert bit > 0
        assert bit.bit_count() == 1
        assert bit not in self.held
        # A bit that was used is used again as soon as it may be, so that masks stay short.
        assert bit in rested if rested else bit not in self.given_back
        assert all(self.items.mask(hash_, self.now) & bit == 0 for hash_ in HASHES)
        self.given_back.pop(bit, None)
        self.held.append(bit)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def go(self, data: st.DataObject) -> None:
        bit = self.held.pop(data.draw(st.integers(0, len(self.held) - 1)))
        self.bits.release(bit, self.now)
        self.given_back[bit] = self.now

    @precondition(lambda self: self.held)
    @rule(hash_=hashes, data=st.data())
    def learn(self, hash_: bytes, data: st.DataObject) -> None:
        self.items.add(hash_, data.draw(st.sampled_from(self.held)), self.now)


TestPeerBits = PeerBitsMachine.TestCase
TestPeerBits.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


@given(st.integers(1, 200))
def test_bits_are_distinct_and_dense(number: int) -> None:
    bits = PeerBits(100.0)
    assert [bits.acquire(0.0) for _ in range(number)] == [1 << place for place in range(number)]


def test_a_bit_rests_before_it_is_used_again() -> None:
    bits = PeerBits(100.0)
    first = bits.acquire(0.0)
    bits.release(first, 7.0)
    second = bits.acquire(106.9)
    assert second != first
    assert bits.acquire(107.0) == first


def test_those_who_come_and_go_do_not_make_the_masks_long() -> None:
    """The bits that rest are handed out again when they are too many, and the table forgets them;
    what it knows of others stays."""
    bits, items = PeerBits(100.0), KnownItems(10, 100.0)
    stays = bits.acquire(0.0)
    items.add(b"item", stays, 0.0)
    for _ in range(PeerBits.MAX_RESTING - 1):
        bit = bits.acquire(0.0)
        items.add(b"item", bit, 0.0)
        bits.release(bit, 0.0)
        assert bits.wake() == 0
    last = bits.acquire(0.0)
    assert last == 1 << PeerBits.MAX_RESTING
    bits.release(last, 0.0)
    items.forget(bits.wake())
    assert items.mask(b"item", 0.0) == stays
    again = {bits.acquire(0.0) for _ in range(PeerBits.MAX_RESTING)}
    assert again == {1 << place for place in range(1, PeerBits.MAX_RESTING + 1)}
