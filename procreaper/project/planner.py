"""From the process types, and what is wanted of them, to a plan.

Rules: pure. Which types are in the plan, and in which order, decides about their ports, 100 a type as honcho counts:

    nothing named      all types of the files in their order, also those that do not start (`autostart`, `-x`)
    some named         those, in the order in which they were named, as honcho does
    ... that need      these and those, in the order of the files: they stand to each other as in a whole start
        others
    some asked for     behind all of these, so that nobody who runs has another port for it
        since

What waits for a process that is left out (`-x`, `--no-deps`) does not wait for it.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from procreaper.core.names import MOST_UNKNOWN, Member, Names
from procreaper.core.plan import Dependency, Plan, Process, Watch, When, reachable
from procreaper.core.ports import AUTO, AutoPorts, FindPort, variable_of
from procreaper.errors import Problem
from procreaper.project.groups import check_groups
from procreaper.project.procfile import OURS, Entry, Instance, make_instances

if TYPE_CHECKING:
    from procreaper.project.depends_on import Needs
    from procreaper.project.instances import LoadCheck
    from procreaper.project.process_types import Supervision
    from procreaper.project.settings import Settings

ALL = "all"
OUTDATED_HINT = "the app was started with this; it has no effect any more"


class ProcessType(NamedTuple):
    """A process type of the files; `supervision` is None where there is no `.reaper.toml`.

    `file_environment` is what its `env_file` adds, None where one could not be read.
    """

    name: str
    command: str | tuple[str, ...]
    line: int
    supervision: Supervision | None = None
    file_environment: Mapping[str, str] | None = {}

    @property
    def concurrency(self) -> int:
        """How many processes of it the files ask for."""
        return 1 if self.supervision is None else self.supervision.concurrency

    @property
    def says_stop_all(self) -> bool:
        """Whether the files say when its end ends the app."""
        return self.supervision is not None and self.supervision.says_stop_all


class Selection(NamedTuple):
    """What the command line asks for. `counts` has every type; `timeout` and `pty` None leave it to the settings.

    `auto_ports`: `-p` asks for `auto` (True) or for a number (False); None where it is not given.
    `scaled` are the types of which somebody has asked for so many since: all of those start. `joined` are names that
    somebody has asked for since, in that order; one that there is no more is passed over. `running`: the app runs with
    these choices already, so they cannot be corrected any more, and a name that the files have lost is no error.
    """

    counts: Mapping[str, int]
    names: tuple[str, ...] = ()
    port: int = 5000
    auto_ports: bool | None = None
    timeout: float | None = None
    quiet: tuple[str, ...] = ()
    restart: tuple[str, ...] = ()
    can_die: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    no_deps: bool = False
    watch: tuple[str, ...] = ()
    no_watch: bool = False
    pty: bool | None = None
    scaled: tuple[str, ...] = ()
    joined: tuple[str, ...] = ()
    running: bool = False


class PlanContext(NamedTuple):
    """What the project is in: the environment that we were given, and what the `.env` files add to it.

    `cwd` is where processes run unless they say, None for where we are; `root` what their own `cwd` is relative to.
    `directory` is that root, absolute. `procfile` is only quoted. `terminal`: our standard output is one. `find_port`
    finds the ports for `auto`.
    """

    environment: Mapping[str, str]
    added: Mapping[str, str]
    procfile: str = "Procfile"
    cwd: str | None = None
    root: str = "."
    directory: str = "/"
    terminal: bool = False
    find_port: FindPort = AutoPorts("/").find


def mark_outdated(problems: Iterable[Problem]) -> list[Problem]:
    """These problems of the command line as warnings: the app has started with it, and its files have changed since."""
    return [problem._replace(level="warning", hint=OUTDATED_HINT) for problem in problems]


def make_plan(
    types: Sequence[ProcessType],
    selection: Selection,
    context: PlanContext,
    settings: Settings | None = None,
    load_check: LoadCheck | None = None,
) -> tuple[Plan, list[Problem]]:
    """The plan, and everything that is wrong with it; with an error among that, the plan is of no use.

    `load_check` makes the health check for a URL whose scheme is not one of ours.
    """
    planner = _Planner(types, selection, context, settings, load_check)
    plan = planner.plan()
    return plan, list(dict.fromkeys(planner.problems))


class _Planner:
    def __init__(
        self,
        types: Sequence[ProcessType],
        selection: Selection,
        context: PlanContext,
        settings: Settings | None,
        load_check: LoadCheck | None,
    ) -> None:
        self._types = {kind.name: kind for kind in types}
        self._selection = selection
        self._context = context
        self._settings = settings
        self._load_check = load_check
        self._names = Names(selection.counts, {} if settings is None else settings.document.groups)
        self._neighbours: dict[str, str] = {}
        self.problems: list[Problem] = []

    def plan(self) -> Plan:
        selection, names = self._selection, self._names
        if self._settings is not None:
            self.problems += check_groups(self._settings, self._types)
        self._joined = [member for name in selection.joined for member in names.find(name) or ()]
        typed: list[Problem] = []
        named = self._find_named(typed)
        excluded = names.find_all("-x", selection.exclude, typed)
        self._quiet = names.find_all("-q", selection.quiet, typed)
        self._can_die = self._find_flagged("--can-die", selection.can_die, typed)
        self._restart = self._find_flagged("-r", selection.restart, typed)
        self.problems += mark_outdated(typed) if selection.running else typed
        needs = self._needs()
        processes = self._make_processes(self._choose_types(named, excluded, needs))
        return self._connect(processes, named, excluded, needs)

    def _find_named(self, problems: list[Problem]) -> list[Member]:
        """What is to be started by name; as with honcho, a name is one of a type, or else of a group."""
        members: list[Member] = []
        unknown = []
        for name in self._selection.names:
            if name in self._names.counts or name in self._names.groups:
                members += self._names.find(name) or ()
            else:
                unknown.append(name)
        if len(unknown) > MOST_UNKNOWN:
            shown = "', '".join(unknown[:MOST_UNKNOWN])
            others = len(unknown) - MOST_UNKNOWN
            message = f"Process types '{shown}' and {others} more do not exist in {self._context.procfile}"
            problems.append(Problem(message, hint=self._names.list_all()))
        else:
            for name in unknown:
                message = f"Process type '{name}' does not exist in {self._context.procfile}"
                problems.append(Problem(message, hint=self._suggest(name)))
        if self._selection.running and self._selection.names and not (members or self._joined):
            names = "`, `".join(self._selection.names)
            message = f"nothing is left of what was named at the start (`{names}`)"
            hint = "`procreaper up NAME` starts something else, and `procreaper quit` ends the app"
            self.problems.append(Problem(message, hint=hint, level="warning"))
            problems.clear()
        return members

    def _suggest(self, name: str) -> str | None:
        """What the user may have meant; other tools take `web=2` where we take `-c web=2`."""
        kind, equals, count = name.partition("=")
        if equals and kind in self._names.counts and count.isascii() and count.isdecimal():
            return f"`-c {name}` says how many of it to run"
        return self._names.suggest(name)

    def _find_flagged(self, option: str, given: Iterable[str], problems: list[Problem]) -> list[Member]:
        """The members that an option names; `all` stands for every type, for `-r` less the oneshots."""
        given = [name for name in given if name]
        members = self._names.find_all(option, (name for name in given if name != ALL), problems)
        if option == "-r":
            oneshots = [member for member in members if self._template(member.type).oneshot]
            for member in oneshots:
                message = f"-r: `{member.type}` is a oneshot, so it cannot be restarted always"
                problems.append(Problem(message, hint="leave it out"))
            members = [member for member in members if member not in oneshots]
        if ALL in given:
            members += [Member(name) for name in self._types if option != "-r" or not self._template(name).oneshot]
        return members

    def _template(self, name: str) -> Process:
        supervision = self._types[name].supervision
        return Process(name, "") if supervision is None else supervision.template

    def _needs(self) -> Needs:
        if self._settings is None:
            return {}
        # Not at the top, here and below: only settings say what depends on what.
        from procreaper.project.depends_on import find_needs

        if self._selection.running:
            self._drop_contradicted(self._settings)
        needs, problems = find_needs(self._types, self._names, self._settings, self._restart)
        self.problems += problems
        return needs

    def _drop_contradicted(self, settings: Settings) -> None:
        """Do without `-r` for what others wait for until it is completed, since the files say so."""
        from procreaper.project.depends_on import find_contradicted

        contradicted = find_contradicted(self._types, self._names, settings, self._restart)
        for member in contradicted:
            message = f"-r: something waits until `{member.type}` is completed, so it cannot be restarted always"
            self.problems += mark_outdated((Problem(message),))
        self._restart = [member for member in self._restart if member not in contradicted]

    def _choose_types(
        self,
        named: Sequence[Member],
        excluded: Sequence[Member],
        needs: Needs,
    ) -> list[ProcessType]:
        """The types in the plan, in the order that gives them their ports."""
        if not self._selection.names:
            return list(self._types.values())
        without = {member.type for member in excluded if member.number is None}
        edges = {
            name: [member.type for _, members in found for member in members if member.type not in without]
            for name, found in ({} if self._selection.no_deps else needs).items()
        }
        chosen = dict.fromkeys(member.type for member in named)
        needed = reachable(chosen, edges)
        if len(needed) > len(chosen):
            chosen = dict.fromkeys(name for name in self._types if name in needed)
        for member in self._joined:
            needed = reachable((member.type,), edges)
            chosen.update(dict.fromkeys(name for name in self._types if name in needed))
        return [self._types[name] for name in chosen]

    def _make_processes(self, kinds: Sequence[ProcessType]) -> list[Process]:
        by_name = {kind.name: kind for kind in kinds}
        # A list is no command for honcho, which only passes it on.
        entries = [Entry(kind.name, "", kind.line) for kind in kinds]
        instances = make_instances(
            entries,
            concurrency=self._selection.counts,
            environment=self._context.added,
            quiet=(),
            port=self._selection.port,
        )
        ports = self._assign_ports(kinds, instances)
        self._neighbours = self._port_variables(kinds, ports)
        return [
            self._make_process(
                by_name[instance.type],
                instance._replace(env={**instance.env, "PORT": str(ports[instance.name]), **self._neighbours}),
            )
            for instance in instances
        ]

    def _assign_ports(self, kinds: Sequence[ProcessType], instances: Iterable[Instance]) -> dict[str, int]:
        """The port of each instance, and of the first instance of each type, also where there is none of it.

        A type with a port of its own keeps its hundred, so that all others have the same ports as without it.
        """
        asked = {kind.name: self._asked_port(kind) for kind in kinds}
        ports = {f"{kind.name}.1": self._selection.port + 100 * number for number, kind in enumerate(kinds)}
        ports.update({instance.name: int(instance.env["PORT"]) for instance in instances})
        for name in ports:
            kind, _, number = name.rpartition(".")
            if isinstance(port := asked[kind], int):
                ports[name] = port + int(number) - 1
        derived = [name for name in ports if asked[name.rpartition(".")[0]] == AUTO]
        others = {port for name, port in ports.items() if name not in derived}
        return {**ports, **{name: self._context.find_port(name, others) for name in derived}}

    def _asked_port(self, kind: ProcessType) -> int | str | None:
        """What the process itself says, else `-p`, else `[defaults]`; None for the port that honcho gives it."""
        if kind.supervision is not None and kind.supervision.port is not None:
            return kind.supervision.port
        defaults_to_auto = kind.supervision is not None and kind.supervision.defaults_to_auto_port
        auto = defaults_to_auto if self._selection.auto_ports is None else self._selection.auto_ports
        return AUTO if auto else None

    def _port_variables(self, kinds: Sequence[ProcessType], ports: Mapping[str, int]) -> dict[str, str]:
        """The variables that tell every process the ports of all; of two types with one variable the first has it."""
        return {variable_of(kind.name): str(ports[f"{kind.name}.1"]) for kind in reversed(kinds)}

    def _make_process(self, kind: ProcessType, instance: Instance) -> Process:
        context, supervision = self._context, kind.supervision
        environment = {**context.environment, **instance.env}
        if supervision is None or self._settings is None or self._load_check is None:
            self._add_pagers(kind, environment)
            process = Process(instance.name, kind.command, env=environment, cwd=context.cwd)
        else:
            from procreaper.project.instances import InstanceReader

            environment.update(kind.file_environment or {})
            environment.update({name: instance.env[name] for name in (*OURS, *self._neighbours)})
            self._add_pagers(kind, environment)
            realised = InstanceReader(
                supervision.layers,
                self._settings,
                environment,
                is_complete=kind.file_environment is not None,
                directory=context.directory,
            )
            health = realised.health(self._load_check) if supervision.has_health else None
            self.problems += realised.problems
            cwd, log = supervision.template.cwd, supervision.template.log
            if log is not None and realised.log_path is not None:
                log = log._replace(path=posixpath.join(context.directory, realised.log_path))
            process = supervision.template._replace(
                name=instance.name,
                env=realised.environment,
                cwd=context.cwd if cwd is None else self._under_root(cwd),
                health=health,
                log=log,
                port=int(instance.env["PORT"]) if isinstance(supervision.port, int) else None,
            )
        return self._with_flags(self._with_watch(kind, process))._replace(pty=self._has_terminal(kind))

    def _add_pagers(self, kind: ProcessType, environment: dict[str, str]) -> None:
        """Have no pager wait for keys on a terminal that the process has only because we have one.

        Git and many other programs start a pager where they see a terminal; without one they would just write.
        """
        is_default = self._selection.pty is None and (kind.supervision is None or kind.supervision.pty is None)
        if is_default and self._has_terminal(kind) and "PAGER" not in environment:
            environment["PAGER"] = "cat"
            environment.setdefault("GIT_PAGER", "cat")

    def _has_terminal(self, kind: ProcessType) -> bool:
        """Whether it is to have a terminal of its own; one that goes on without us cannot, since that ends with us."""
        said = None if kind.supervision is None else kind.supervision.pty
        if kind.supervision is not None and kind.supervision.template.detached:
            return False
        wanted = said if self._selection.pty is None else self._selection.pty
        return self._context.terminal if wanted is None else wanted

    def _with_watch(self, kind: ProcessType, process: Process) -> Process:
        """What files it is restarted for, by its settings and `-w`; one that waits for files to change ends nobody."""
        watch = None if self._selection.no_watch else process.watch
        if self._selection.watch and watch is None:
            watch = Watch("", ())
        if watch is not None:
            paths = tuple(dict.fromkeys((*watch.paths, *self._selection.watch)))
            watch = watch._replace(root=self._context.directory, paths=paths)
        stop_all = process.stop_all
        if (watch is None) != (process.watch is None) and not kind.says_stop_all:
            unwatched = When.ON_FAILURE if process.oneshot else When.ALWAYS
            stop_all = unwatched if watch is None else When.NEVER
        return process._replace(watch=watch, stop_all=stop_all)

    def _under_root(self, path: str) -> str:
        # Not normalised: `link/..` is where the link leads to.
        return path if self._context.root == "." else posixpath.join(self._context.root, path)

    def _with_flags(self, process: Process) -> Process:
        timeout = self._selection.timeout
        return process._replace(
            quiet=any(member.covers(process) for member in self._quiet),
            restart=When.ALWAYS if any(member.covers(process) for member in self._restart) else process.restart,
            stop_all=When.NEVER if any(member.covers(process) for member in self._can_die) else process.stop_all,
            stop=process.stop if timeout is None else process.stop._replace(timeout=timeout),
        )

    def _connect(
        self,
        processes: Sequence[Process],
        named: Sequence[Member],
        excluded: Sequence[Member],
        needs: Needs,
    ) -> Plan:
        """Dependencies between processes, and which of them start."""
        left_out = {process.name for process in processes if any(member.covers(process) for member in excluded)}
        if self._selection.names:
            wanted = [process.name for process in processes if any(member.covers(process) for member in named)]
        else:
            wanted = [process.name for process in processes if self._starts_by_itself(process.type)]
        wanted = [name for name in wanted if name not in left_out]
        if self._selection.scaled or self._joined:
            since = {process.name for process in processes if self._was_asked_for(process)}
            wanted = [process.name for process in processes if process.name in since.union(wanted)]
        without = left_out
        if self._selection.no_deps:
            without = {process.name for process in processes} - set(wanted)
        dependencies = self._make_edges(processes, needs, without)
        edges = {name: [edge.name for edge in found] for name, found in dependencies.items()}
        started = reachable(wanted, edges)
        if needs and self._settings is not None and not self._selection.no_deps:
            from procreaper.project.depends_on import find_missing

            types = dict.fromkeys(process.type for process in processes if process.name in started)
            lacking = self._find_reduced() if self._selection.running else ()
            self.problems += find_missing(types, needs, excluded, self._names, self._settings, lacking)
        connected = tuple(
            process._replace(depends_on=dependencies[process.name]) if dependencies.get(process.name) else process
            for process in processes
        )
        names = tuple(process.name for process in processes if process.name in started)
        return Plan(connected, names if len(names) < len(processes) else None)

    def _find_reduced(self) -> list[str]:
        """The types of which a flag of the start leaves fewer than the files say; `scale` can be corrected."""
        counts, scaled = self._selection.counts, self._selection.scaled
        return [name for name, kind in self._types.items() if counts[name] < kind.concurrency and name not in scaled]

    def _make_edges(
        self, processes: Sequence[Process], needs: Needs, without: Iterable[str]
    ) -> dict[str, tuple[Dependency, ...]]:
        if not needs:
            return {}
        from procreaper.project.depends_on import connect

        return connect(processes, needs, without)

    def _was_asked_for(self, process: Process) -> bool:
        """Whether somebody has asked for it since the start."""
        return process.type in self._selection.scaled or any(member.covers(process) for member in self._joined)

    def _starts_by_itself(self, name: str) -> bool:
        supervision = self._types[name].supervision
        return supervision is None or supervision.autostart
