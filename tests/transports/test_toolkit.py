"""The toolkit offers what a transport is written with, under the names it lists."""

from aelf_p2p.transports import toolkit


def test_it_exports_what_it_lists_and_nothing_else() -> None:
    public = {name for name in vars(toolkit) if not name.startswith("_")}
    assert public == set(toolkit.__all__)
    assert len(toolkit.__all__) == len(public)
