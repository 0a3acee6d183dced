"""Without a `.reaper.toml` the four formats of honcho are written as honcho writes them, but for its defects."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.exporting import HARD, TEXTS, app, contents, exported, honchos, messages, stopping

from procreaper.errors import ConfigError
from procreaper.export import runit, supervisord, systemd, upstart
from procreaper.export.write import is_from_an_export, write_files

FORMATS = {"systemd": systemd, "supervisord": supervisord, "runit": runit, "upstart": upstart}
EVERY = pytest.mark.parametrize("format_", FORMATS)
PLAIN = {
    "HONCHO_PROCESS_NAME": "web.1",
    "A": "1",
    "NAME": "hello world",
    "PATH_TO": "/var/db/x.sqlite3",
    "PORT": "5000",
}

KEEPS_SIGNAL = ", and upstart stops only that shell"

# Commands as they stand in Procfiles, and the formats in which honcho's export of them is broken.
COMMANDS = {
    "python app.py": "",
    "gunicorn app:app -b 0.0.0.0:8000 --log-level=info": "",
    'ruby worker.rb "a b" --x=1': "",
    "./bin/web": "",
    "bundle exec puma -p $PORT": "runit",
    "bundle exec puma -p ${PORT:-3000}": "systemd runit",
    "echo $$": "systemd runit upstart",
    "$SHELL -c x": "systemd runit upstart",
    "sh -c 'a b'": "systemd supervisord upstart",
    "A=1 bin/web": "runit upstart",
    "exec bin/web": "runit upstart",
    "cd web && bin/web": "runit upstart",
    "bin/prepare; bin/web": "runit upstart",
    "bin/prepare ; bin/web": "supervisord runit upstart",
    "bin/web # the web": "supervisord runit",
    "bin/web >log/web.log 2>&1": "runit",
    "date +%s": "systemd",
    "grep 'a\\.b' x": "systemd supervisord runit upstart",
    "grep a\\.b x": "systemd runit",
    "source env": "runit upstart",
}
# Values, and the formats in which honcho's export of them is broken.
VALUES = {
    "plain": "",
    "two words": "",
    "a;b#c,d": "",
    "f(x)": "",
    "it's": "supervisord",
    "a@b": "supervisord",
    "a=b": "supervisord",
    "a,b": "supervisord",
    "50%": "systemd supervisord",
    "a % b": "systemd",
    '"': "supervisord",
    'say "x" to me': "",
    "'\"'": "supervisord",
    "a ; b": "supervisord",
    "a # b": "supervisord",
    "C:\\new": "systemd upstart",
    "a\nb": "systemd supervisord runit upstart",
    "a ": "runit",
    "a\t": "runit",
    "": "runit",
    "grün": "",
}


@EVERY
def test_an_app_of_several_processes_is_as_with_honcho(format_: str) -> None:
    names = ("web.1", "web.2", "worker.1", "a_b-c.1")
    several = app(*(exported(name, "python app.py --x", {**PLAIN, "HONCHO_PROCESS_NAME": name}) for name in names))
    rendered = FORMATS[format_].render(several)
    assert contents(rendered) == stopping(format_, several)
    assert messages(rendered) == []


@EVERY
def test_the_options_are_where_honcho_has_them(format_: str) -> None:
    options = {"name": "shop", "user": "deploy", "log": "/logs", "shell": "/bin/bash", "root": "/opt/shop"}
    one = app(exported(environment=PLAIN), **options)
    assert contents(FORMATS[format_].render(one)) == stopping(format_, one)


@EVERY
def test_an_app_without_processes_is_as_with_honcho(format_: str) -> None:
    assert contents(FORMATS[format_].render(app())) == stopping(format_, app())


@EVERY
@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_is_written_otherwise_only_where_it_would_not_arrive(format_: str, command: str) -> None:
    one = app(exported(command=command, environment=PLAIN))
    rendered = FORMATS[format_].render(one)
    is_broken = format_ in COMMANDS[command].split()
    assert (contents(rendered) != stopping(format_, one)) is is_broken
    found = [text for text in messages(rendered) if not text.endswith(KEEPS_SIGNAL)]
    assert len(found) == is_broken
    assert all(text.startswith("the command of `web` is not written as honcho does") for text in found)


@pytest.mark.parametrize(
    "command", ["bin/web | tee log", "bin/web || bin/other", ". ./env; bin/web", "while :; do a; done"]
)
def test_upstart_tells_of_a_shell_that_keeps_the_signal(command: str) -> None:
    found = messages(upstart.render(app(exported(command=command))))
    assert found[0] == f"the command of `web` is run by a shell{KEEPS_SIGNAL}"


@pytest.mark.parametrize(
    "command", ["bin/web", "cd web && A=1 bin/web $PORT >log", ". ./env; exec bin/web", "exec bin/web"]
)
def test_upstart_tells_nothing_where_the_program_gets_the_signal(command: str) -> None:
    assert not [
        text for text in messages(upstart.render(app(exported(command=command)))) if text.endswith(KEEPS_SIGNAL)
    ]


def test_a_stop_reaches_all_that_was_started() -> None:
    one = app(exported(command="cd web && bin/web $PORT", environment=PLAIN))
    written = {format_: str(contents(FORMATS[format_].render(one))) for format_ in FORMATS}
    assert "KillMode=control-group" in written["systemd"]
    assert "stopasgroup=true\\nkillasgroup=true" in written["supervisord"]
    assert "exec chpst -u app -P -e" in written["runit"]
    assert all("cd web && exec bin/web $PORT" in text for text in written.values())


@EVERY
@pytest.mark.parametrize("value", VALUES)
def test_a_value_is_written_otherwise_only_where_it_would_not_arrive(format_: str, value: str) -> None:
    one = app(exported(command="bin/web", environment={**PLAIN, "VALUE": value}))
    rendered = FORMATS[format_].render(one)
    is_broken = format_ in VALUES[value].split()
    assert (contents(rendered) != stopping(format_, one)) is is_broken
    found = [text for text in messages(rendered) if text.startswith("the value of `VALUE` is not written as honcho")]
    assert len(found) == is_broken


@EVERY
@given(command=TEXTS.filter(str.strip), value=TEXTS)
@settings(deadline=None, max_examples=150)
def test_whatever_is_written_otherwise_is_told(format_: str, command: str, value: str) -> None:
    one = app(exported(command=command, environment={**PLAIN, "VALUE": value}))
    rendered = FORMATS[format_].render(one)
    found = [text for text in messages(rendered) if not text.endswith(KEEPS_SIGNAL)]
    assert (contents(rendered) != stopping(format_, one)) == bool(found)


@EVERY
@pytest.mark.parametrize("root", ["/srv/a b", "/srv/50%", "/srv/it's"])
def test_a_directory_is_written_otherwise_only_where_it_is_told(format_: str, root: str) -> None:
    one = app(exported(environment=PLAIN), root=root)
    rendered = FORMATS[format_].render(one)
    assert (contents(rendered) != stopping(format_, one)) == bool(messages(rendered))


@EVERY
def test_a_variable_that_no_shell_passes_on_is_left_out(format_: str) -> None:
    rendered = FORMATS[format_].render(app(exported(environment={**PLAIN, "FÖO": "1"})))
    assert "FÖO" not in str(contents(rendered))
    assert messages(rendered) == ["the variable `FÖO` is left out: no shell passes such a name on"]


@EVERY
def test_an_image_means_nothing_here(format_: str) -> None:
    one = app(exported(environment=PLAIN), image="i", is_given=frozenset({"app", "image"}))
    assert messages(FORMATS[format_].render(one)) == [f"--image is left out: {format_} has nothing like it"]


@EVERY
@pytest.mark.parametrize("user", ["a b", "$USER", "a;b", "a'b"])
def test_what_is_no_user_is_refused(format_: str, user: str) -> None:
    with pytest.raises(ConfigError, match=f"-u '?.* cannot be written for {format_}"):
        FORMATS[format_].render(app(exported(), user=user))


def test_two_jobs_of_one_name_are_not_written(tmp_path: Path) -> None:
    rendered = upstart.render(app(exported("web.1"), exported("web-1.1")))
    with pytest.raises(ConfigError, match=r"two processes would both be exported to `app-web-1\.conf`"):
        write_files(str(tmp_path), rendered.files, force=False, tell=print)


@EVERY
@given(st.sampled_from(HARD), TEXTS)
@settings(deadline=None, max_examples=20)
def test_a_file_of_an_earlier_export_is_known(format_: str, command: str, value: str) -> None:
    one = app(exported(command=command or "true", environment={**PLAIN, "VALUE": value}))
    files = [file for file in FORMATS[format_].render(one).files if file.known_by is not None]
    theirs = honchos(format_, one)
    assert len(files) >= 1
    assert all(is_from_an_export(file._replace(content=""), file.content) for file in files)
    # It has no scripts in `control`.
    texts = {path: text for path, (text, _) in theirs.items()}
    assert all(is_from_an_export(file._replace(content=""), texts.get(file.path, file.content)) for file in files)
