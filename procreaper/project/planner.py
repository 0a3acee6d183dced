"""Makes the plan from the process types and the selection of the user.

Rules: pure. The types in the plan, and their order, determine the ports. Like honcho, it gives each type 100 ports:

    no names given          all types in the order of the files, also those that do not start (`autostart`, `-x`)
    names given             these types, in the order of the names, as in honcho
    ... that depend on      these types and their dependencies, in the order of the files, as in a start of all types
        other types
    names added while       after all types above, so that the running processes keep their ports
        the app runs

A process does not wait for a dependency that is left out by `-x` or `--no-deps`.
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
    from procreaper.project.depends_on import Entries
    from procreaper.project.instances import LoadCheck
    from procreaper.project.process_types import Supervision
    from procreaper.project.settings import Settings

ALL = "all"
OUTDATED_HINT = "the app was started with this option; it no longer has an effect"


class ProcessType(NamedTuple):
    """A process type of the files. `supervision` is None if there is no `.reaper.toml`.

    `file_environment` has the variables that its `env_file` adds. It is None if such a file could not be read.
    """

    name: str
    command: str | tuple[str, ...]
    line: int
    supervision: Supervision | None = None
    file_environment: Mapping[str, str] | None = {}

    @property
    def concurrency(self) -> int:
        """The number of instances in the files."""
        return 1 if self.supervision is None else self.supervision.concurrency

    @property
    def says_stop_all(self) -> bool:
        """Whether the files set `stop_all` for this type."""
        return self.supervision is not None and self.supervision.says_stop_all


class Selection(NamedTuple):
    """The parsed options. `counts` has every type. If `timeout` or `pty` is None, the settings decide.

    `auto_ports` is True for `-p auto`, False for `-p` with a number, and None without `-p`. While the app runs, a user
    can scale types and add names. All instances of the `scaled` types start. `joined` has the added names, in the order
    of the requests; a name that no longer exists is ignored. `running`: the app already runs with these options. They
    cannot be corrected any more, so a name that is no longer in the files is not an error.
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
    """The surroundings of the project: our own `environment`, and the variables `added` by the `.env` files.

    `cwd` is the default working directory of processes, None for our own. The `cwd` of a process is relative to `root`;
    `directory` is the absolute path of `root`. `procfile` is for messages only. `terminal`: our standard output is a
    terminal. `find_port` finds the ports for `auto`.
    """

    environment: Mapping[str, str]
    added: Mapping[str, str]
    procfile: str = "Procfile"
    cwd: str | None = None
    root: str = "."
    directory: str = "/"
    terminal: bool = False
    find_port: FindPort = AutoPorts("/").find_port


def mark_outdated(problems: Iterable[Problem]) -> list[Problem]:
    """Turn problems of the command line into warnings, because the app already runs and its files have changed."""
    return [problem._replace(level="warning", hint=OUTDATED_HINT) for problem in problems]


def make_plan(
    types: Sequence[ProcessType],
    selection: Selection,
    context: PlanContext,
    settings: Settings | None = None,
    load_check: LoadCheck | None = None,
) -> tuple[Plan, list[Problem]]:
    """Make the plan. Return it and all problems; the plan is unusable if one of them is an error.

    `load_check` makes the health check for a URL with a scheme of an installed package.
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
        self._port_variables: dict[str, str] = {}
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
        entries = self._resolve_dependencies()
        processes = self._make_processes(self._choose_types(named, excluded, entries))
        return self._connect(processes, named, excluded, entries)

    def _find_named(self, problems: list[Problem]) -> list[Member]:
        """Return the members to start by name. As in honcho, a name is that of a type, or else that of a group."""
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
            message = f"no process that was named at the start is left (`{names}`)"
            hint = "`procreaper up NAME` starts something else, and `procreaper quit` ends the app"
            self.problems.append(Problem(message, hint=hint, level="warning"))
            problems.clear()
        return members

    def _suggest(self, name: str) -> str | None:
        """Return a hint for an unknown name. Some users of other tools write `web=2` instead of `-c web=2`."""
        kind, equals, count = name.partition("=")
        if equals and kind in self._names.counts and count.isascii() and count.isdecimal():
            return f"`-c {name}` sets the number of instances"
        return self._names.suggest(name)

    def _find_flagged(self, option: str, given: Iterable[str], problems: list[Problem]) -> list[Member]:
        """Return the members that an option names. `all` means every type, except oneshots for `-r`."""
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

    def _resolve_dependencies(self) -> Entries:
        if self._settings is None:
            return {}
        # Imported here and below, because only a project with settings has dependencies.
        from procreaper.project.depends_on import resolve_dependencies

        if self._selection.running:
            self._drop_contradicted(self._settings)
        entries, problems = resolve_dependencies(self._types, self._names, self._settings, self._restart)
        self.problems += problems
        return entries

    def _drop_contradicted(self, settings: Settings) -> None:
        """Ignore `-r` for a process if another one waits for its completion; the files win."""
        from procreaper.project.depends_on import find_contradicted

        contradicted = find_contradicted(self._types, self._names, settings, self._restart)
        for member in contradicted:
            message = f"-r: another process waits until `{member.type}` is completed, so it cannot be restarted always"
            self.problems += mark_outdated((Problem(message),))
        self._restart = [member for member in self._restart if member not in contradicted]

    def _choose_types(
        self,
        named: Sequence[Member],
        excluded: Sequence[Member],
        entries: Entries,
    ) -> list[ProcessType]:
        """Return the types in the plan. Their order determines the ports."""
        if not self._selection.names:
            return list(self._types.values())
        without = {member.type for member in excluded if member.number is None}
        edges = {
            name: [member.type for _, members in found for member in members if member.type not in without]
            for name, found in ({} if self._selection.no_deps else entries).items()
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
        # honcho only passes the command on, and would refuse a list.
        entries = [Entry(kind.name, "", kind.line) for kind in kinds]
        instances = make_instances(
            entries,
            concurrency=self._selection.counts,
            environment=self._context.added,
            quiet=(),
            port=self._selection.port,
        )
        ports = self._assign_ports(kinds, instances)
        self._port_variables = self._make_port_variables(kinds, ports)
        return [
            self._make_process(
                by_name[instance.type],
                instance._replace(env={**instance.env, "PORT": str(ports[instance.name]), **self._port_variables}),
            )
            for instance in instances
        ]

    def _assign_ports(self, kinds: Sequence[ProcessType], instances: Iterable[Instance]) -> dict[str, int]:
        """Return the port of each instance, and of the first instance of each type, even if it has no instances.

        A type with its own `port` still takes up its hundred ports, so that all other ports stay the same.
        """
        requested = {kind.name: self._requested_port(kind) for kind in kinds}
        ports = {f"{kind.name}.1": self._selection.port + 100 * number for number, kind in enumerate(kinds)}
        ports.update({instance.name: int(instance.env["PORT"]) for instance in instances})
        for name in ports:
            kind, _, number = name.rpartition(".")
            if isinstance(port := requested[kind], int):
                ports[name] = port + int(number) - 1
        derived = [name for name in ports if requested[name.rpartition(".")[0]] == AUTO]
        others = {port for name, port in ports.items() if name not in derived}
        return {**ports, **{name: self._context.find_port(name, others) for name in derived}}

    def _requested_port(self, kind: ProcessType) -> int | str | None:
        """Return the `port` of the type, or else of `-p` or `[defaults]`; None for the port that honcho assigns."""
        if kind.supervision is not None and kind.supervision.port is not None:
            return kind.supervision.port
        defaults_to_auto = kind.supervision is not None and kind.supervision.defaults_to_auto_port
        auto = defaults_to_auto if self._selection.auto_ports is None else self._selection.auto_ports
        return AUTO if auto else None

    def _make_port_variables(self, kinds: Sequence[ProcessType], ports: Mapping[str, int]) -> dict[str, str]:
        """Return the variables with the ports of all types. A variable of two types has the port of the first."""
        return {variable_of(kind.name): str(ports[f"{kind.name}.1"]) for kind in reversed(kinds)}

    def _make_process(self, kind: ProcessType, instance: Instance) -> Process:
        context, supervision = self._context, kind.supervision
        environment = {**context.environment, **instance.env}
        if supervision is None or self._settings is None or self._load_check is None:
            self._disable_pagers(kind, environment)
            process = Process(instance.name, kind.command, env=environment, cwd=context.cwd)
        else:
            from procreaper.project.instances import InstanceReader

            environment.update(kind.file_environment or {})
            environment.update({name: instance.env[name] for name in (*OURS, *self._port_variables)})
            self._disable_pagers(kind, environment)
            reader = InstanceReader(
                supervision.layers,
                self._settings,
                environment,
                is_complete=kind.file_environment is not None,
                directory=context.directory,
            )
            health = reader.make_health(self._load_check) if supervision.has_health else None
            self.problems += reader.problems
            cwd, log = supervision.template.cwd, supervision.template.log
            if log is not None and reader.log_path is not None:
                log = log._replace(path=posixpath.join(context.directory, reader.log_path))
            process = supervision.template._replace(
                name=instance.name,
                env=reader.environment,
                cwd=context.cwd if cwd is None else self._join_root(cwd),
                health=health,
                log=log,
                port=int(instance.env["PORT"]) if isinstance(supervision.port, int) else None,
            )
        return self._with_flags(self._with_watch(kind, process))._replace(pty=self._has_terminal(kind))

    def _disable_pagers(self, kind: ProcessType, environment: dict[str, str]) -> None:
        """Prevent a pager from waiting for keys, if the process has a terminal only because procreaper has one.

        Git and many other programs start a pager on a terminal, and otherwise just write their output.
        """
        is_default = self._selection.pty is None and (kind.supervision is None or kind.supervision.pty is None)
        if is_default and self._has_terminal(kind) and "PAGER" not in environment:
            environment["PAGER"] = "cat"
            environment.setdefault("GIT_PAGER", "cat")

    def _has_terminal(self, kind: ProcessType) -> bool:
        """Return whether a type gets a terminal. A detached one cannot, because the terminal ends with procreaper."""
        own = None if kind.supervision is None else kind.supervision.pty
        if kind.supervision is not None and kind.supervision.template.detached:
            return False
        wanted = own if self._selection.pty is None else self._selection.pty
        return self._context.terminal if wanted is None else wanted

    def _with_watch(self, kind: ProcessType, process: Process) -> Process:
        """Add the files to watch, of the settings and of `-w`.

        Unless the settings say otherwise, the end of a process with watched files does not stop the app.
        """
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

    def _join_root(self, path: str) -> str:
        # Not normalised: `link/..` is the parent of the target of the link.
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
        entries: Entries,
    ) -> Plan:
        """Add the dependencies between processes, and select the processes that start."""
        left_out = {process.name for process in processes if any(member.covers(process) for member in excluded)}
        if self._selection.names:
            wanted = [process.name for process in processes if any(member.covers(process) for member in named)]
        else:
            wanted = [process.name for process in processes if self._is_autostart(process.type)]
        wanted = [name for name in wanted if name not in left_out]
        if self._selection.scaled or self._joined:
            requested = {process.name for process in processes if self._was_requested(process)}
            wanted = [process.name for process in processes if process.name in requested.union(wanted)]
        without = left_out
        if self._selection.no_deps:
            without = {process.name for process in processes} - set(wanted)
        dependencies = self._make_edges(processes, entries, without)
        edges = {name: [edge.name for edge in found] for name, found in dependencies.items()}
        started = reachable(wanted, edges)
        if entries and self._settings is not None and not self._selection.no_deps:
            from procreaper.project.depends_on import find_missing_dependencies

            types = dict.fromkeys(process.type for process in processes if process.name in started)
            reduced = self._find_reduced() if self._selection.running else ()
            self.problems += find_missing_dependencies(types, entries, excluded, self._names, self._settings, reduced)
        connected = tuple(
            process._replace(depends_on=dependencies[process.name]) if dependencies.get(process.name) else process
            for process in processes
        )
        names = tuple(process.name for process in processes if process.name in started)
        return Plan(connected, names if len(names) < len(processes) else None)

    def _find_reduced(self) -> list[str]:
        """Return the types with fewer instances than in the files, due to an option; `scale` can change this."""
        counts, scaled = self._selection.counts, self._selection.scaled
        return [name for name, kind in self._types.items() if counts[name] < kind.concurrency and name not in scaled]

    def _make_edges(
        self, processes: Sequence[Process], entries: Entries, without: Iterable[str]
    ) -> dict[str, tuple[Dependency, ...]]:
        if not entries:
            return {}
        from procreaper.project.depends_on import make_edges

        return make_edges(processes, entries, without)

    def _was_requested(self, process: Process) -> bool:
        """Return whether a user has scaled or added the process since the start."""
        return process.type in self._selection.scaled or any(member.covers(process) for member in self._joined)

    def _is_autostart(self, name: str) -> bool:
        supervision = self._types[name].supervision
        return supervision is None or supervision.autostart
