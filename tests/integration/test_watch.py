"""Saved files from the view of a user: the new version runs, and the messages say so."""

from __future__ import annotations

import os
import re
import signal
from random import Random

import pytest
from support.driver import Program, Project, altered, lines_of

from procreaper.core.file_changes import MOST_RESTARTS

# A version is printed when it begins to run; the long run is for a machine that has nothing else to do.
SAVES = int(os.environ.get("SAVES", "200"))
APP = "import signal\nprint('version {}', flush=True)\nsignal.pause()\n"
# For how long all must be quiet after too many restarts, shorter than it really is.
PAUSES = (0.5, 0.6)
WATCHED = '[process.web]\nwatch = ["app.py"]\n'


def save(project: Project, version: object) -> None:
    project.write("app.py", APP.format(version))


def system(program: Program) -> list[str]:
    return lines_of(program.out, "system")


def announced(text: str) -> list[str]:
    return [line for line in lines_of(text, "system") if " changed" in line]


def started(text: str) -> int:
    return sum("web.1 started" in line for line in lines_of(text, "system"))


@pytest.fixture
def web(project: Project) -> Program:
    """One process that is restarted for its program, and runs."""
    project.procfile(web=f"exec {project.python('app', APP.format(1))}")
    project.write(".reaper.toml", WATCHED)
    program = project.begin("start")
    program.wait_for("version 1$")
    return program


class TestSaving:
    def test_saved_version_runs(self, project: Project, web: Program) -> None:
        for version in (2, 3, 4):
            save(project, version)
            web.wait_for(f"version {version}$")
        result = web.stop()
        assert result.code == 143
        assert announced(result.out) == ["web.1: app.py changed; restarting"] * 3
        assert result.lines("web.1") == ["version 1", "version 2", "version 3", "version 4"]

    def test_save_by_renaming_counts_too(self, project: Project, web: Program) -> None:
        new = project.write("app.py~", APP.format(2))
        new.rename(project.path / "app.py")
        web.wait_for("version 2$")
        web.stop()

    def test_many_files_are_one_restart_and_one_line(self, project: Project) -> None:
        project.procfile(web="cat src/*.txt | sort | uniq -c; exec sleep 600")
        for number in range(50):
            project.write(f"src/{number}.txt", "old\n")
        project.write(".reaper.toml", '[process.web]\nwatch = { paths = ["src"], debounce = "1s" }\n')
        program = project.begin("start")
        program.wait_for("50 old")
        for number in range(50):
            project.write(f"src/{number}.txt", "new\n")
        program.wait_for("50 new")
        result = program.stop()
        (line,) = announced(result.out)
        assert re.fullmatch(r"web\.1: src/\d+\.txt and 49 others changed; restarting", line)
        assert started(result.out) == 2

    def test_ignored_files_cause_no_restart(self, project: Project, web: Program) -> None:
        project.write("other.py", "print()\n")
        project.write("__pycache__/app.pyc", "")
        save(project, 2)
        web.wait_for("version 2$")
        assert announced(web.stop().out) == ["web.1: app.py changed; restarting"]

    def test_only_processes_that_watch_the_file_restart(self, project: Project) -> None:
        project.procfile(web="cat web.txt; exec sleep 600", worker="cat worker.txt; exec sleep 600")
        project.write("web.txt", "web 1\n")
        project.write("worker.txt", "worker 1\n")
        project.write(".reaper.toml", '[process.web]\nwatch = ["web.txt"]\n[process.worker]\nwatch = ["worker.txt"]\n')
        program = project.begin("start")
        program.wait_for("web 1")
        program.wait_for("worker 1")
        project.write("worker.txt", "worker 2\n")
        program.wait_for("worker 2")
        result = program.stop()
        assert started(result.out) == 1
        assert announced(result.out) == ["worker.1: worker.txt changed; restarting"]

    def test_dependant_restarts_too_if_its_dependency_says_so(self, project: Project) -> None:
        project.procfile(db="cat db.txt; exec sleep 600", web="echo web; exec sleep 600")
        project.write("db.txt", "db 1\n")
        project.write(
            ".reaper.toml",
            '[process.db]\nwatch = ["db.txt"]\n[process.web]\ndepends_on = { db = { restart = true } }\n',
        )
        program = project.begin("start")
        program.wait_for(r"web\.1 +\| web")
        project.write("db.txt", "db 2\n")
        program.wait_for(r"web\.1 +\| web", count=2)
        program.stop()


class TestBursts:
    def test_only_the_newest_version_runs(self, project: Project) -> None:
        """Bursts of random length, some of them while it stops or starts, and now and then one that cannot run."""
        random = Random(SAVES)
        project.procfile(web=f"exec {project.python('app', APP.format(0))}")
        project.write(".reaper.toml", '[process.web]\nwatch = { paths = ["app.py"], debounce = "10ms" }\n')
        # A test that saves as soon as it sees the last version run is no different from a program that writes itself.
        program = project.begin(
            "start",
            wrapper=altered("from procreaper.core import file_changes as changes; changes.MOST_RESTARTS = 10**9"),
        )
        program.wait_for("version 0$")
        version = 0
        while version < SAVES:
            told = program.out.count("sending SIGTERM")
            for _ in range(min(random.randrange(1, 30), SAVES - version)):
                version += 1
                if random.random() < 0.1:
                    project.write("app.py", "this is no program\n")
                save(project, version)
            if random.random() < 0.8:
                program.wait_for(f"version {version}$")
            elif random.random() < 0.5:
                # One that could not run has nothing to be sent; and where this is slow, the newest may run already.
                program.wait_for(f"sending SIGTERM|version {version}$", count=told + 1)
        program.wait_for(f"version {version}$")
        # What is being written may have been seen twice; what takes the place of another file is seen once.
        version += 1
        project.write("app.py~", APP.format(version)).replace(project.path / "app.py")
        program.wait_for(f"version {version}$")
        pids = [int(pid) for pid in re.findall(r"web\.1 started \(pid=(\d+)\)", program.out)]
        result = program.stop()
        assert result.code == 143
        assert result.lines("web.1")[-1] == f"version {version}"
        assert result.out.count("web.1 stopped") == len(pids)
        assert "not watched any more" not in result.out
        # One at a time: each has ended before the next began.
        told = re.findall(r"web\.1 (started|stopped)", result.out)
        assert told == ["started", "stopped"] * len(pids)
        for pid in pids:
            with pytest.raises(ProcessLookupError):
                os.kill(pid, 0)

    def test_frequent_saves_are_not_mistaken_for_writes_of_the_process(self, project: Project) -> None:
        """Each save is one restart until there are too many; then the newest runs as soon as the saves pause."""
        project.procfile(web=f"exec {project.python('app', APP.format(1))}")
        project.write(".reaper.toml", WATCHED)
        program = project.begin(
            "start", wrapper=altered(f"from procreaper.core import file_changes as changes; changes.CALMS = {PAUSES}")
        )
        program.wait_for("version 1$")
        for version in range(2, 2 + MOST_RESTARTS):
            save(project, version)
            program.wait_for(f"version {version}$")
        for version in range(2 + MOST_RESTARTS, 12 + MOST_RESTARTS):
            save(project, version)
        (calm,) = program.wait_for(r"web\.1: app\.py changed; too many restarts: .* no file has changed for ([.\d]+) s")
        assert float(calm) == PAUSES[0]
        program.wait_for(f"version {11 + MOST_RESTARTS}$")
        assert "not watched any more" not in program.stop().out


class TestFailing:
    def test_app_survives_a_syntax_error_until_the_next_save(self, project: Project, web: Program) -> None:
        project.write("app.py", "print('version 2'\n")
        web.wait_for("SyntaxError")
        web.wait_for("web.1: exited with code 1; starts again when its files change")
        save(project, 3)
        web.wait_for("version 3$")
        assert "web.1: app.py changed; starting" in system(web)
        assert web.stop().code == 143

    def test_crashed_process_waits_for_the_next_save(self, project: Project, web: Program) -> None:
        (pid,) = web.wait_for(r"web\.1 started \(pid=(\d+)\)")
        os.kill(int(pid), signal.SIGKILL)
        web.wait_for("web.1: killed by SIGKILL; starts again when its files change")
        save(project, 2)
        web.wait_for("version 2$")
        web.stop()

    def test_save_skips_the_back_off(self, project: Project) -> None:
        project.procfile(web=f"exec {project.python('app', 'raise SystemExit(3)')}")
        project.write(".reaper.toml", WATCHED + 'restart = "always"\nbackoff = "1h"\n')
        program = project.begin("start")
        program.wait_for("retry 1 in")
        save(project, 2)
        program.wait_for("version 2$")
        program.stop()

    def test_one_that_has_ended_well_keeps_the_app_too(self, project: Project) -> None:
        project.procfile(web="cat page.txt")
        project.write("page.txt", "page 1\n")
        project.write(".reaper.toml", '[process.web]\nwatch = ["page.txt"]\n')
        program = project.begin("start")
        program.wait_for("web.1: exited with code 0; starts again when its files change")
        project.write("page.txt", "page 2\n")
        program.wait_for("page 2")
        program.wait_for("starts again when its files change", count=2)
        assert program.stop(signal.SIGINT).code == 130

    def test_skipped_process_starts_when_its_dependency_is_fixed(self, project: Project) -> None:
        project.procfile(migrate="sh migrate.sh", web="echo web; exec sleep 600")
        project.write("migrate.sh", "exit 5\n")
        project.write(
            ".reaper.toml",
            '[process.migrate]\noneshot = true\nwatch = ["migrate.sh"]\n[process.web]\ndepends_on = ["migrate"]\n',
        )
        program = project.begin("start")
        program.wait_for("web.1 skipped")
        project.write("migrate.sh", "exit 0\n")
        program.wait_for(r"web\.1 +\| web")
        program.stop()

    def test_children_of_a_restarted_process_end_before_the_next_run(self, project: Project) -> None:
        os.mkfifo(project.path / "alive1")
        project.write("child.sh", "trap '' TERM; exec 3> alive$1; echo child $1; while :; do sleep 600; done\n")
        project.procfile(web="read page < page.txt; sh child.sh $page & echo page $page; wait")
        project.write("page.txt", "1\n")
        project.write(".reaper.toml", '[process.web]\nwatch = ["page.txt"]\nstop = { timeout = "100ms" }\n')
        program = project.begin("start")
        with open(project.path / "alive1", "rb") as alive:
            program.wait_for("child 1$")
            project.write("page.txt", "2\n")
            assert alive.read() == b""
        program.wait_for("child 2$")
        program.wait_for("page 2$")
        result = program.stop()
        assert result.out.index("sending SIGKILL to web.1") < result.out.index("page 2")


class TestPreparation:
    CONFIG = '[process.web]\nwatch = {{ paths = ["app.py"], run = "{}" }}\n'

    def begin(self, project: Project, command: str) -> Program:
        project.procfile(web=f"exec {project.python('app', APP.format(1))}")
        project.write(".reaper.toml", self.CONFIG.format(command))
        program = project.begin("start")
        program.wait_for("version 1$")
        return program

    def test_its_success_leads_to_the_restart(self, project: Project) -> None:
        program = self.begin(project, "echo building")
        save(project, 2)
        program.wait_for("version 2$")
        result = program.stop()
        assert result.lines("web.1") == ["version 1", "building", "version 2"]
        assert "web.1: app.py changed; running `echo building`" in result.lines("system")
        assert "web.1: `echo building` succeeded; restarting" in result.lines("system")

    def test_failed_watch_command_keeps_the_running_process(self, project: Project) -> None:
        program = self.begin(project, "test -f good || exit 2")
        save(project, 2)
        program.wait_for("the watch command of web.1 exited with code 2, so nothing is restarted")
        project.write("good", "")
        save(project, 3)
        program.wait_for("version 3$")
        result = program.stop()
        assert result.lines("web.1") == ["version 1", "version 3"]
        assert started(result.out) == 2

    def test_watch_command_that_writes_watched_files_is_named_and_runs_once_per_save(self, project: Project) -> None:
        project.write("src/app.css", "")
        project.procfile(web="cat src/version; exec sleep 600")
        project.write("src/version", "version 1\n")
        command = "date +%N > src/app.css"
        project.write(".reaper.toml", f'[process.web]\nwatch = {{ paths = ["src"], run = "{command}" }}\n')
        program = project.begin("start")
        program.wait_for("version 1$")
        project.write("src/version", "version 2\n")
        program.wait_for("version 2$")
        project.write("src/version", "version 3\n")
        program.wait_for("version 3$")
        project.write("src/app.css", "written by hand\n")
        program.wait_for("version 3$", count=2)
        result = program.stop()
        assert f"web.1: `{command}` changes src/app.css itself" in result.out
        # The command is found out in the third round; each later save is one round.
        assert result.out.count(f"changed; running `{command}`") == 5
        assert started(result.out) == 4

    def test_ctrl_c_ends_it_at_once(self, project: Project) -> None:
        program = self.begin(project, "trap : TERM INT; echo building; sleep 600; sleep 600")
        save(project, 2)
        program.wait_for("building$")
        result = program.stop(signal.SIGINT)
        assert result.code == 130
        assert "sending SIGKILL" not in result.out

    def test_it_ends_while_the_app_still_waits_for_others(self, project: Project) -> None:
        os.mkfifo(project.path / "gate")
        os.mkfifo(project.path / "alive")
        project.procfile(
            web="trap 'echo told; cat gate; exit 0' TERM; echo ready; while :; do sleep 600 & wait $!; done"
        )
        project.write(
            ".reaper.toml",
            '[process.web]\nstop = { timeout = "1h" }\n'
            'watch = { paths = ["app.py"], run = "exec 3> alive; echo building; sleep 600" }\n',
        )
        program = project.begin("start")
        program.wait_for("ready")
        save(project, 2)
        with open(project.path / "alive", "rb") as alive:
            program.wait_for("building$")
            program.send(signal.SIGINT)
            program.wait_for("told")
            assert alive.read() == b""
        with open(project.path / "gate", "w"):
            pass
        assert program.end().code == 130


def test_watch_signal_is_sent_instead_of_a_restart(project: Project) -> None:
    source = (
        "import signal\n"
        "signals = {signal.SIGHUP, signal.SIGTERM}\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, signals)\n"
        "print('config', open('app.conf').read().strip(), flush=True)\n"
        "while signal.sigwait(signals) == signal.SIGHUP:\n"
        "    print('config', open('app.conf').read().strip(), flush=True)\n"
    )
    project.write("app.conf", "1\n")
    project.procfile(web=f"exec {project.python('app', source)}")
    project.write(".reaper.toml", '[process.web]\nwatch = { paths = ["app.conf"], signal = "SIGHUP" }\n')
    program = project.begin("start")
    program.wait_for("config 1")
    project.write("app.conf", "2\n")
    program.wait_for("config 2")
    result = program.stop()
    assert started(result.out) == 1
    assert "web.1: app.conf changed" in result.lines("system")


def test_process_that_writes_its_own_file_is_left_alone_until_a_manual_restart(project: Project) -> None:
    project.procfile(web="test -f good || date +%s%N >> web.log; echo up; exec sleep 600")
    project.write(".reaper.toml", '[process.web]\nwatch = { paths = ["."], debounce = "10ms" }\n')
    program = project.begin(
        "start", wrapper=altered(f"from procreaper.core import file_changes as changes; changes.CALMS = {PAUSES}")
    )
    (line,) = program.wait_for(r"web\.1: (.* not watched any more .*)")
    assert line.startswith("web.log changed right after every start")
    assert "`procreaper restart web.1`" in line
    assert "`watch.ignore`" in line
    assert "watch suspended: web.log" in project.run("ps").out
    project.write("good", "")
    assert project.run("restart", "web.1").code == 0
    assert "suspended" not in project.run("ps").out
    project.write("other", "")
    # After the first run, those for changes and the one by hand.
    program.wait_for(r"web\.1 started", count=1 + MOST_RESTARTS + len(PAUSES) + 2)
    assert "web.1: other changed; restarting" in program.out
    assert program.stop().code == 143


class TestFlags:
    def test_watch_restarts_all(self, project: Project) -> None:
        project.procfile(web="cat src/page; exec sleep 600", worker="cat src/page; exec sleep 600")
        project.write("src/page", "page 1\n")
        program = project.begin("start", "-w", "src", "-w", "*.conf")
        program.wait_for("page 1", count=2)
        project.write("src/page", "page 2\n")
        program.wait_for("page 2", count=2)
        project.write("deep/down/app.conf", "")
        program.wait_for("page 2", count=4)
        assert program.stop().code == 143

    def test_no_watch_restarts_nothing_and_the_app_ends_as_without(self, project: Project) -> None:
        os.mkfifo(project.path / "gate")
        project.procfile(web="echo up; cat gate; exit 4")
        project.write(".reaper.toml", '[process.web]\nwatch = ["app.py"]\n')
        program = project.begin("start", "--no-watch")
        program.wait_for("up")
        save(project, 2)
        with open(project.path / "gate", "w"):
            pass
        result = program.end()
        assert result.code == 4
        assert announced(result.out) == []

    def test_both_are_refused(self, project: Project) -> None:
        project.procfile(web="exit 0")
        result = project.run("start", "-w", ".", "--no-watch")
        assert result.code != 0
        assert "cannot be used together" in result.err


def test_file_of_our_own_output_causes_no_restart(project: Project, tmp_path_factory: pytest.TempPathFactory) -> None:
    told = tmp_path_factory.mktemp("told") / "fifo"
    os.mkfifo(told)
    project.write("version", "1")
    project.procfile(web=f"cat version > {told}; echo heard; exec sleep 600")
    with (project.path / "out.txt").open("wb") as out:
        program = project.begin("start", "-w", ".", stdout=out.fileno())
    for version in ("1", "2"):
        if version != "1":
            project.write("version", version)
        assert told.read_text() == version
        # The printed output would cause the next run before this test is over.
        for _ in range(3):
            assert project.run("version").code == 0
    program.stop()
    assert (project.path / "out.txt").read_text().count("web.1 started") == 2
