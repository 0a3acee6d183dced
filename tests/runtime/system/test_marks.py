"""Reading the mark of a process from its environment."""

from __future__ import annotations

import pytest

from procreaper.runtime.system.marks import find_variable


@pytest.mark.parametrize(
    ("environment", "value"),
    [
        (b"", b""),
        (b"A=1\0B=2=3\0C=\0", b"2=3"),
        (b"AB=1\0XB=2\0", b""),
        (b"\0\0\0\0", b""),
        (b"nginx: master process\0\0\0", b""),
    ],
)
def test_variable_is_found_in_an_environment(environment: bytes, value: bytes) -> None:
    assert find_variable(environment, "B") == value
