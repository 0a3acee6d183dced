"""`attach`: type and read at the terminal of a process from another terminal, and leave without a trace."""

from __future__ import annotations

import os
import re
import signal
import sys
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support.driver import LIMIT, Program, Project
from support.pages import free_port

LEAVE = "\x1d"
GREETING = r"attached to web\.1; Ctrl-\] detaches\r\n"

# A server that adds numbers, with a breakpoint.
SERVER = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        total = 42
        if self.path == "/debug":
            breakpoint()
            total = total
            total = total
        self.send_response(200)
        self.end_headers()
        self.wfile.write(str(total).encode())
    def log_message(self, *arguments):
        pass
server = http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler)
print("ready", flush=True)
server.serve_forever()
"""


def begin_app(project: Project, web: str, *arguments: str) -> Program:
    """An app with a process `web` that has said `ready`."""
    project.procfile(web=web)
    app = project.begin("start", "--no-color", "--pty", *arguments)
    app.wait_for(r"web\.1 +\| .*ready")
    return app


def attach(project: Project, *arguments: str) -> Program:
    client = project.begin("attach", *(arguments or ("web",)), terminal=True)
    client.wait_for(GREETING)
    return client


def leave(client: Program) -> str:
    """Leave; what was shown in all."""
    client.type(LEAVE)
    result = client.end()
    assert (result.code, result.err) == (0, "detached from web.1\n")
    return result.out


def test_breakpoint_pauses_health_checks_while_other_processes_continue(project: Project) -> None:
    port = free_port()
    os.mkfifo(project.path / "tick")
    project.procfile(
        web=f"exec {sys.executable} {project.write('server.py', SERVER)} {port}",
        clock="while :; do cat tick; done",
    )
    project.write(
        ".reaper.toml",
        f'[process.web]\nhealth = {{ http = "http://127.0.0.1:{port}/", interval = "200ms", timeout = "1s", '
        'retries = 1 }\n[process.clock]\nhealth = { exec = "echo checked >> checks", interval = "100ms" }\n',
    )
    app = project.begin("start", "--no-color", "--pty")
    app.wait_for("web.1 is healthy")
    client = attach(project)
    app.wait_for("checks paused")
    with ThreadPoolExecutor() as pool:
        answer = pool.submit(lambda: urllib.request.urlopen(f"http://127.0.0.1:{port}/debug", timeout=LIMIT).read())
        client.wait_for(r"\(Pdb\) ")
        # Longer than it would have lived otherwise: by the clock of another health check.
        checks = project.path / "checks"
        before = len(checks.read_text().splitlines())
        while len(checks.read_text().splitlines()) < before + 15:
            os.sched_yield()
        for number, (typed, shown) in enumerate(
            [
                ("n\r", r"n\r\n> .*\r\n-> total = total"),
                ("p total\r", r"\n42\r\n"),
                ("!total = 77\r", "total = 77\r\n"),
            ],
            2,
        ):
            client.type(typed)
            client.wait_for(shown)
            client.wait_for(r"\(Pdb\) ", count=number)
        (project.path / "tick").write_text("tick\n")
        app.wait_for(r"clock\.1 +\| tick")
        client.type("c\r")
        assert answer.result(LIMIT) == b"77"
    shown = leave(client)
    # As on any terminal: every line begins at the left.
    assert not re.search(r"(?<!\r)\n", shown)
    app.wait_for("checks go on")
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=LIMIT) as again:
        assert again.read() == b"42"
    result = app.stop()
    assert "(Pdb) p total" in result.lines("web.1")
    assert "42" in result.lines("web.1")
    assert "web.1 stopped" not in result.out.partition("SIGTERM received")[0]


ECHO = 'stty -echo; echo ready; while read -r line; do echo "<$line>"; done; echo ended; exec sleep 600'


def test_control_keys_reach_the_process(project: Project) -> None:
    keys = {"INT": "\x03", "TSTP": "\x1a", "QUIT": "\x1c"}
    traps = "".join(f"trap 'echo took {name}' {name}; " for name in keys)
    app = begin_app(project, f'{traps} stty -echo; echo ready; while :; do read -r x && echo "<$x>"; done')
    client = attach(project)
    for name, key in keys.items():
        client.type(key)
        client.wait_for(f"took {name}\r\n")
    client.type("grüße\x7f\x7fe\r")
    client.wait_for("<grüe>")
    leave(client)
    app.stop()


def test_detach_keys_option_changes_the_keys_that_leave(project: Project) -> None:
    app = begin_app(project, ECHO)
    client = project.begin("attach", "web", "--detach-keys", "ctrl-p,ctrl-q", terminal=True)
    client.wait_for(r"attached to web\.1; Ctrl-P Ctrl-Q detaches\r\n")
    client.type("a\x1db\x10")
    client.type("c\r")
    client.wait_for("<a\x1db\x10c>")
    client.type("\x10")
    client.type("\x11")
    result = client.end()
    assert (result.code, result.err) == (0, "detached from web.1\n")
    app.stop()


def test_unknown_detach_keys_are_an_error(project: Project) -> None:
    result = project.run("attach", "web", "--detach-keys", "ctrl-p,alt-q")
    assert result.code == 2
    assert result.err.startswith("procreaper: error: --detach-keys ctrl-p,alt-q: `alt-q` is no key\n  hint: ")


DRAW = (
    r"printf 'ready\n'; stty raw -echo;"
    r" printf '\033[?1049h\033[?25l\033[?1000;1006h\033[?2004h\033[?1h\033=\033[Hdrawn'; "
)

# A shell with job control. Its job is suspended, and continued by `bg` and `fg`. It prints the modes of the terminal.
SHELL = """
import os, signal, sys, termios
before = termios.tcgetattr(0)
signal.signal(signal.SIGTTOU, signal.SIG_IGN)
job = os.fork()
if not job:
    os.setpgid(0, 0)
    os.tcsetpgrp(0, os.getpid())
    signal.signal(signal.SIGTTOU, signal.SIG_DFL)
    os.execv(sys.argv[1], sys.argv[1:])
while os.WIFSTOPPED(os.waitpid(job, os.WUNTRACED)[1]):
    os.tcsetpgrp(0, os.getpgrp())
    os.write(1, b"stopped, modes kept\\r\\n" if termios.tcgetattr(0) == before else b"stopped, modes changed\\r\\n")
    os.kill(job, signal.SIGCONT)
    os.waitpid(job, os.WUNTRACED)
    os.write(1, b"waits, modes kept\\r\\n" if termios.tcgetattr(0) == before else b"waits, modes changed\\r\\n")
    os.tcsetpgrp(0, job)
    os.kill(job, signal.SIGCONT)
os.tcsetpgrp(0, os.getpgrp())
os.write(1, b"ended, modes kept\\r\\n" if termios.tcgetattr(0) == before else b"ended, modes changed\\r\\n")
"""


@pytest.mark.parametrize("number", ["TSTP", "TTIN", "TTOU"])
def test_suspended_client_restores_the_terminal_and_takes_it_again(project: Project, number: str) -> None:
    app = begin_app(project, f"{DRAW} while read -r x; do printf '<%s>' $x; done")
    client = project.begin("attach", "web", terminal=True, wrapper=(sys.executable, "-c", SHELL))
    client.wait_for("drawn")
    os.kill(pid_of_client(client), signal.Signals[f"SIG{number}"])
    client.wait_for(r"stopped, modes kept\r\n")
    stopped = client.out.index("stopped, modes")
    assert client.out.rindex("\x1b[?1049l", 0, stopped) > client.out.rindex("\x1b[?1049h", 0, stopped)
    client.wait_for(r"waits, modes kept\r\n")
    # It enters the screen of the program again, once it is in the foreground.
    client.wait_for(r"waits, modes kept\r\n(?s:.*)\x1b\[\?1049h")
    client.type("here\n")
    client.wait_for("<here>")
    client.type(LEAVE)
    client.wait_for(r"ended, modes kept\r\n")
    client.end()
    app.stop()


def pid_of_client(client: Program) -> int:
    """The process of `attach` below a wrapper."""
    return int(re.findall(r"^(\d+) .*attach web$", processes_of(client), re.MULTILINE)[-1])


def test_late_client_sees_the_current_screen(project: Project) -> None:
    app = begin_app(project, "seq 100; printf '\\033[31mred\\033[0m\\nready> '; read x")
    client = attach(project)
    client.wait_for("ready> ")
    shown = client.out
    assert "99\r\n100\r\n\x1b[31mred\x1b[0m\r\nready> " in shown
    assert "\n50\r\n" not in shown
    leave(client)
    app.stop()


def test_terminal_has_the_size_of_the_smallest_window(project: Project) -> None:
    size = """
import os, signal
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGWINCH})
print("ready", flush=True)
while True:
    print(*os.get_terminal_size(), flush=True)
    signal.sigwait({signal.SIGWINCH})
"""
    app = begin_app(project, f"exec {project.python('size', size)}")
    one = attach(project)
    one.wait_for("100 40")
    one.resize(120, 50)
    one.wait_for("120 50")
    two = attach(project)
    two.wait_for("100 40")
    one.wait_for("100 40", count=2)
    leave(two)
    one.wait_for("120 50", count=2)
    leave(one)
    # No window here: that of the environment.
    app.wait_for("80 24|62 24")
    app.stop()


def test_terminal_is_restored_after_any_program(project: Project) -> None:
    app = begin_app(project, f"{DRAW} exec sleep 600")
    app.wait_for("web.1 draws on the whole screen: `procreaper attach web.1` shows it")
    client = attach(project)
    client.wait_for("drawn")
    shown = leave(client)
    for number in (1049, 1000, 1006, 2004, 1):
        assert f"\x1b[?{number}h" in shown
        assert shown.rindex(f"\x1b[?{number}l") > shown.rindex(f"\x1b[?{number}h")
    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l")
    assert shown.rindex("\x1b>") > shown.rindex("\x1b=")
    result = app.stop()
    assert "\x1b[?" not in result.out


# Holds the terminal open, because it loses its modes when the last process closes it; and prints them.
KEEP = """
import subprocess, sys, termios
before = termios.tcgetattr(0)
code = subprocess.call(sys.argv[1:])
sys.stdout.write("kept" if termios.tcgetattr(0) == before else "changed")
sys.exit(code)
"""


@pytest.mark.parametrize("end", ["left", "app killed", "app ended", "terminated"])
def test_modes_of_our_terminal_are_restored(project: Project, end: str, tmp_path: Path) -> None:
    (tmp_path / "keep.py").write_text(KEEP)
    app = begin_app(project, "echo ready; read x")
    client = project.begin("attach", "web", terminal=True, wrapper=(sys.executable, "-S", str(tmp_path / "keep.py")))
    client.wait_for(GREETING)
    match end:
        case "left":
            client.type(LEAVE)
        case "app killed":
            app.send(signal.SIGKILL)
        case "app ended":
            app.send(signal.SIGTERM)
        case "terminated":
            os.kill(pid_of_client(client), signal.SIGTERM)
    result = client.end()
    assert result.out.endswith("kept")
    code, said = {
        "left": (0, "detached from web.1"),
        "app killed": (1, "has ended, or has closed the connection"),
        "app ended": (0, "web.1 "),
        "terminated": (128 + signal.SIGTERM, "detached from web.1"),
    }[end]
    assert (result.code, said in result.err) == (code, True)
    if end in ("left", "terminated"):
        app.stop()
    app.end()


def processes_of(client: Program) -> str:
    """The processes below a program: pid and command, a line each."""
    found = []
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/stat") as stat, open(f"/proc/{pid}/cmdline") as command:
                session = int(stat.read().rpartition(") ")[2].split()[3])
                if session == client.pid:
                    found.append((int(pid), command.read().replace("\0", " ").strip()))
        except OSError:
            continue
    return "\n".join(f"{pid} {command}" for pid, command in sorted(found))


def test_closed_window_leaves(project: Project) -> None:
    app = begin_app(project, "echo ready; read x; echo after $x; exec sleep 600")
    client = attach(project)
    client.leave()
    assert client.end().code == 128 + signal.SIGHUP
    again = attach(project)
    again.type("that\r")
    again.wait_for("after that")
    leave(again)
    app.stop()


def test_client_is_attached_to_the_next_run(project: Project) -> None:
    project.write(".reaper.toml", '[process.web]\nrestart = "always"\nbackoff = { initial = "10ms" }\n')
    app = begin_app(project, "echo ready; printf '\\033[?2004h'; read x; exit $x")
    client = attach(project)
    client.type("3\r")
    # On a slow machine, the next run has already begun.
    client.wait_for(r"web\.1 exited with code 3; (?:restarting|starting|running), Ctrl-\] detaches\r\n")
    client.wait_for(GREETING, count=2)
    assert re.search(r"\x1b\[\?2004l.*web\.1 exited", client.out, re.DOTALL)
    client.type("4\r")
    client.wait_for(GREETING, count=3)
    leave(client)
    app.stop()


def test_attach_ends_if_there_is_no_next_run(project: Project) -> None:
    app = begin_app(project, "echo ready; read x; exit $x", "--can-die", "all")
    project.procfile(web="exit 1")
    client = attach(project)
    client.type("3\r")
    result = client.end()
    assert (result.code, result.err) == (0, "web.1 exited with code 3\n")
    app.end()


def test_client_that_waits_for_the_next_run_may_leave(project: Project) -> None:
    project.write(".reaper.toml", '[process.web]\nrestart = "always"\nbackoff = { initial = "600s", max = "600s" }\n')
    for key in (LEAVE, "\x03"):
        app = begin_app(project, "echo ready; read x; exit $x")
        client = attach(project)
        client.type("3\r")
        client.wait_for("restarting")
        client.type(key)
        assert client.end().err == "detached from web.1\n"
        app.stop()


def test_input_typed_just_before_leaving_arrives(project: Project) -> None:
    app = begin_app(project, "echo ready; read x; echo took $x; exec sleep 600")
    client = attach(project)
    client.type(f"that\r{LEAVE}")
    assert client.end().code == 0
    app.wait_for("took that")
    app.stop()


def test_large_paste_arrives_complete(project: Project) -> None:
    lines = [f"{number:06d} grüße {'x' * (number % 60)}" for number in range(6000)]
    text = "\r".join(lines) + "\r"
    os.mkfifo(project.path / "go")
    size = len("\n".join(lines).encode()) + 1
    app = begin_app(
        project, f"stty -echo raw; echo ready; cat go; head -c {size} > typed; printf 'all read'; sleep 600"
    )
    client = attach(project)
    data = text.encode()
    with ThreadPoolExecutor() as pool:
        assert client.terminal is not None
        pasted = pool.submit(write_all, client.terminal, data)
        (project.path / "go").write_text("")
        client.wait_for("all read")
        pasted.result(LIMIT)
    assert (project.path / "typed").read_bytes() == data
    leave(client)
    app.stop()


def write_all(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def test_client_that_does_not_read_delays_nothing_and_sees_the_current_screen_later(project: Project) -> None:
    os.mkfifo(project.path / "fifo")
    app = begin_app(project, "echo ready; read x; seq 400000; echo the end; cat fifo; echo later; exec sleep 600")
    stalled = project.begin("attach", "web", terminal=True, read=False)
    client = attach(project)
    client.type("\r")
    app.wait_for(r"\| the end")
    stalled.read()
    stalled.wait_for("the end\r\n")
    (project.path / "fifo").write_text("")
    for program in (client, stalled):
        program.wait_for("later\r\n")
    assert "\n300000\r\n" not in stalled.out
    leave(client)
    leave(stalled)
    app.stop()


@pytest.mark.parametrize(
    ("arguments", "settings", "said"),
    [
        (("web",), "pty = false", "`web.1` has no terminal of its own\n  hint: `pty = true` in .reaper.toml, or "),
        (("job",), "", "`job.1` does not run: it is completed"),
        (("wbe",), "", "there is no process `wbe`"),
        (("all",), "", "`all` stands for 2 processes\n  hint: choose one: `web.1` or `job.1`"),
    ],
)
def test_attach_to_a_process_without_a_terminal_is_an_error(
    project: Project, arguments: tuple[str, ...], settings: str, said: str
) -> None:
    project.procfile(web="exec sleep 600", job="echo done")
    project.write(".reaper.toml", f"[process.web]\n{settings}\n[process.job]\noneshot = true\n")
    app = project.begin("start", "--no-color", terminal=True)
    app.wait_for(r"job\.1 stopped")
    result = project.begin("attach", *arguments, terminal=True).end()
    assert (result.code, result.out) == (1, "")
    assert said in result.err
    app.stop()


@pytest.mark.parametrize("stream", ["input", "output"])
def test_attach_without_a_terminal_is_refused(project: Project, stream: str) -> None:
    redirect = "< /dev/null" if stream == "input" else "> out"
    wrapper = ("/bin/sh", "-c", f'exec "$@" {redirect}', "sh")
    result = project.begin("attach", "web", terminal=True, wrapper=wrapper).end()
    assert result.code == 1
    assert f"`attach` needs a terminal, but standard {stream} is not one" in result.err


def test_attach_refuses_its_own_terminal(project: Project) -> None:
    program = " ".join((sys.executable, "-m", "procreaper"))
    app = begin_app(project, f"echo ready; read x; {program} attach web; echo refused; exec sleep 600")
    client = attach(project)
    client.type("\r")
    client.wait_for("this is the terminal of `web.1` itself")
    client.wait_for("refused")
    leave(client)
    app.stop()
