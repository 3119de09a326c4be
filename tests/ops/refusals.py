"""What a command says when it cannot begin."""

import pytest

from aelf_p2p.ops import cli


def refusal(capsys: pytest.CaptureFixture[str], command: str, *arguments: object) -> str:
    """The one line that it says instead of doing anything, without its name before it."""
    try:
        status: object = cli.main([command, *map(str, arguments)])
    except SystemExit as ended:  # the arguments alone are wrong
        status = ended.code
    assert status == 2
    said = capsys.readouterr()
    assert said.out == ""
    [line] = said.err.splitlines()
    return line.removeprefix(f"aelf-p2p {command}: ")
