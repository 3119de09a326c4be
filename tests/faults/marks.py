"""Which tests are marked for which case, read from the files of the tests without running them."""

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

OF_CASE = "of the case"
"""What a test of several cases records when a parameter is of one alone, or of none (0)."""

TESTS = Path(__file__).parents[1]


def marked_tests() -> dict[int, list[str]]:
    """By case, tests as ``path::name``."""
    found: dict[int, list[str]] = defaultdict(list)
    for path in sorted(TESTS.rglob("test_*.py")):
        source = path.read_text()
        if "mark.fault" not in source:
            continue
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                for number in set(_numbers(node)):
                    found[number].append(f"{path.relative_to(TESTS)}::{node.name}")
    return found


def _numbers(test: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[int]:
    """Of ``pytest.mark.fault(...)`` anywhere in its decorators, a parameter's marks too."""
    for decorator in test.decorator_list:
        for call in ast.walk(decorator):
            if (
                isinstance(call, ast.Call)
                and isinstance(call.func, ast.Attribute)
                and call.func.attr == "fault"
            ):
                yield from (ast.literal_eval(argument) for argument in call.args)
