"""Tests of connections run over both kinds of streams: those that can send without waiting, too."""

import pytest

from tests.transports.net import pairs


@pytest.fixture(params=[pairs.Wire, pairs.EagerWire])
def each_kind_of_wire(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ends of each connection of the test are of this kind."""
    monkeypatch.setattr(pairs, "wire_type", request.param)
