"""The keys that detach from `attach`."""

from __future__ import annotations

import pytest

from procreaper.cli.commands.detach_keys import DetachKeys
from procreaper.errors import USAGE_ERROR, ProcreaperError


@pytest.mark.parametrize(
    ("text", "name", "typed"),
    [
        ("ctrl-]", "Ctrl-]", b"\x1d"),
        ("ctrl-]", "Ctrl-]", b"\x1b[93;5u"),
        ("ctrl-]", "Ctrl-]", b"\x1b[93;5:1u"),
        ("ctrl-]", "Ctrl-]", b"\x1b[27;5;93~"),
        ("ctrl-p,ctrl-q", "Ctrl-P Ctrl-Q", b"\x10\x11"),
        ("ctrl-p,ctrl-q", "Ctrl-P Ctrl-Q", b"\x1b[112;5u\x1b[112;5:3u\x1b[113;5u"),
        ("ctrl-@", "Ctrl-@", b"\x00"),
        ("ctrl-\\,q", "Ctrl-\\ q", b"\x1cq"),
        ("ctrl-^,ctrl-_,DEL", "Ctrl-^ Ctrl-_ Backspace", b"\x1e\x1f\x7f"),
        ("~,.", "~ .", b"~."),
        ("a,a,b", "a a b", b"aab"),
    ],
)
def test_keys_in_the_form_of_docker_are_parsed(text: str, name: str, typed: bytes) -> None:
    keys = DetachKeys(text)
    assert keys.name == name
    assert keys.feed(b"ls\r" + typed + b"more") == (b"ls\r", True)


@pytest.mark.parametrize(
    "text", ["", "ctrl-", "ctrl-1", "ctrl-P", "alt-q", "ctrl-p,", "ctrl-p ctrl-q", "ü", "^]", "pq"]
)
def test_invalid_key_is_refused_with_a_hint(text: str) -> None:
    with pytest.raises(ProcreaperError, match="is no key") as raised:
        DetachKeys(text)
    assert (raised.value.exit_code, "`ctrl-`" in str(raised.value.hint)) == (USAGE_ERROR, True)


def test_sequence_is_found_in_pieces() -> None:
    keys = DetachKeys("ctrl-p,ctrl-q")
    assert keys.feed(b"a\x10") == (b"a", False)
    assert keys.feed(b"\x11") == (b"", True)


def test_first_key_goes_to_the_process_if_another_key_follows() -> None:
    keys = DetachKeys("ctrl-p,ctrl-q")
    assert keys.feed(b"\x10") == (b"", False)
    assert keys.feed(b"x") == (b"\x10x", False)
    assert keys.feed(b"\x10\x10") == (b"\x10", False), "the second one may begin the sequence"
    assert keys.feed(b"\x11") == (b"", True)


def test_held_key_is_dropped_at_the_end_of_a_run() -> None:
    keys = DetachKeys("ctrl-p,ctrl-q")
    keys.feed(b"\x10")
    keys.forget()
    assert keys.feed(b"x") == (b"x", False)


def test_escape_that_may_begin_a_key_is_not_held() -> None:
    assert DetachKeys().feed(b"\x1b") == (b"\x1b", False)
