from __future__ import annotations

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from support.exported import NASTY, TEXTS

from procreaper.export.yaml import Value, dump, dump_all

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)


@settings(deadline=None)
@given(VALUES)
def test_what_is_written_is_read_back(value: Value) -> None:
    assert yaml.safe_load(dump(value)) == value


@settings(deadline=None)
@given(st.lists(VALUES, min_size=1, max_size=3))
def test_documents_are_read_back_one_by_one(values: list[Value]) -> None:
    assert list(yaml.safe_load_all(dump_all(values))) == values


@pytest.mark.parametrize("text", NASTY)
def test_a_text_stays_a_text_wherever_it_stands(text: str) -> None:
    value = {text: text, "list": [text, text], "long": [text] * 60, "deep": [{text: [[text]]}]}
    assert yaml.safe_load(dump(value)) == value


@pytest.mark.parametrize(
    "text", ["web", "./app", "/srv/app", "unless-stopped", "10s", "500ms", "python -m http.server"]
)
def test_what_nobody_can_mistake_stands_without_quotes(text: str) -> None:
    assert dump({"key": text}) == f"key: {text}\n"


# YAML 1.1 and 1.2 do not agree about these, and neither do their readers.
@pytest.mark.parametrize("text", ["yes", "Off", "n", "22:22", "1_000", "0o7", "1e3", ".inf", "=", "<<", "2026-01-01"])
def test_what_depends_on_the_version_of_yaml_stands_in_quotes(text: str) -> None:
    assert dump({text: text}) == f'"{text}": "{text}"\n'


def test_a_command_stands_in_one_line_as_long_as_it_fits() -> None:
    assert dump({"command": ["/bin/sh", "-c", "x"], "empty": [[], {}]}) == (
        'command: ["/bin/sh", "-c", "x"]\nempty:\n  - []\n  - {}\n'
    )
    assert dump({"command": ["/bin/sh", "x" * 100]}).count("\n") == 3
