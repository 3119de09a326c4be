"""What an error says of the other side's own words."""

from aelf_p2p.core.errors import CallFailedError, StatusCode


def test_no_line_of_a_log_is_forged_with_details() -> None:
    details = 'no\n2026-01-01 ERROR a line \x1b[31mof another\u2028 100% "n\u00f6"'
    error = CallFailedError(StatusCode.NOT_FOUND, details)
    assert error.details == details
    assert str(error) == (
        'NOT_FOUND: no\\n2026-01-01 ERROR a line \\x1b[31mof another\\u2028 100% "n\u00f6"'
    )


def test_without_details_the_code_stands_alone() -> None:
    assert str(CallFailedError(StatusCode.CANCELLED)) == "CANCELLED"
