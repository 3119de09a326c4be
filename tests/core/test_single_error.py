"""A nursery's single error leaves as itself, and nothing that was thrown is taken apart."""

import pytest

from aelf_p2p.core.single_error import each_error, single_error_as_itself


class Ignored(BaseException):
    """As a cancellation is."""


@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt])
def test_one_error_leaves_as_itself(kind: type[BaseException]) -> None:
    cause = OSError("the cause")
    error = kind("one")
    error.__cause__ = cause
    with pytest.raises(kind) as caught, single_error_as_itself():
        raise BaseExceptionGroup("nursery", [error])
    assert caught.value is error
    assert caught.value.__cause__ is cause


def test_several_leave_as_a_group() -> None:
    group = ExceptionGroup("two", [ValueError("a"), KeyError("b")])
    with pytest.raises(ExceptionGroup) as caught, single_error_as_itself():
        raise group
    assert caught.value is group


def test_a_group_that_was_thrown_loses_only_its_wrapping() -> None:
    group = ExceptionGroup("one", [ValueError("a")])
    with pytest.raises(ExceptionGroup) as caught, single_error_as_itself():
        raise ExceptionGroup("nursery", [group])
    assert caught.value is group


def test_what_is_ignored_does_not_count_beside_an_error() -> None:
    error = ValueError("one")
    group = BaseExceptionGroup("both", [error, Ignored()])
    with pytest.raises(ValueError, match="one") as caught, single_error_as_itself(Ignored):
        raise group
    assert caught.value is error


def test_each_error_of_groups_in_groups() -> None:
    one, other, third = ValueError("one"), KeyError("other"), Ignored()
    group = BaseExceptionGroup("outer", [one, BaseExceptionGroup("inner", [other, third])])
    assert list(each_error(group)) == [one, other, third]
    assert list(each_error(one)) == [one]


def test_what_is_ignored_leaves_when_there_is_nothing_else() -> None:
    with pytest.raises(Ignored), single_error_as_itself(Ignored):
        raise BaseExceptionGroup("only", [Ignored()])
