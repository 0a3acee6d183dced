"""`completion`: scripts that complete what is typed after `procreaper` in bash, zsh and fish.

Rules: written from the parser itself, so that no flag can be missing. The scripts contain the commands and the flags.
For the names of processes they call `completion names`, which reads the files of the project and ignores errors.
"""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

from procreaper.cli.messages import print_result
from procreaper.cli.parser import COMMANDS, EXPORT_FORMATS, CommandParser, build_parser, parse
from procreaper.errors import USAGE_ERROR, ProcreaperError

SHELLS = ("bash", "zsh", "fish")
# The kind of completion after a flag, by the placeholder of its value in the help.
FILES, DIRECTORIES, NAMES = ("FILE", "FILE,FILE", "PATH"), ("DIR",), ("NAME", "NAME,NAME", "TYPE=N", "TYPE=N,TYPE=N")
WORDS = {"--log-format": ("text", "json"), "--format": ("text", "json", "github")}
# The flags that select the files of a project, also in an unfinished command line.
PROJECT_FLAGS = {"-d", "--app-root", "--root", "-f", "--procfile", "--config", "-e", "--env"}


class Flag(NamedTuple):
    """One option: its spellings, its help, and the placeholder of its value (None: a flag without a value)."""

    spellings: tuple[str, ...]
    help: str
    value: str | None


class Command(NamedTuple):
    """One command: its help, its options, whether it takes names of processes, and the words that it takes.

    `arguments` are the arguments in its usage line.
    """

    name: str
    help: str
    flags: tuple[Flag, ...]
    takes_names: bool
    words: tuple[str, ...]
    arguments: str = ""


def print_completion(shell: str, arguments: Sequence[str]) -> int:
    """Print the script for a shell; for `names`, the names that complete the command line so far."""
    if shell == "names":
        for name in _find_names(arguments):
            print_result(name)
        return 0
    writers = {"bash": _bash, "zsh": _zsh, "fish": _fish}
    if shell not in writers:
        hint = f"use {', '.join(f'`{name}`' for name in SHELLS)}"
        raise ProcreaperError(f"there is no completion for `{shell}`", hint=hint, exit_code=USAGE_ERROR)
    print_result(writers[shell](list_commands()))
    return 0


def list_commands() -> list[Command]:
    """List all commands of the parser."""
    parser = build_parser(COMMANDS)
    found = next(action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    described = []
    for name, its_parser in found.choices.items():
        flags = tuple(
            Flag(tuple(action.option_strings), action.help or "", None if action.nargs == 0 else str(action.metavar))
            for action in its_parser._actions
            if action.option_strings
        )
        given = [str(action.metavar) for action in its_parser._actions if not action.option_strings]
        words = tuple(found.choices) if "COMMAND" in given and name == "help" else SHELLS if "SHELL" in given else ()
        arguments = its_parser.arguments() if isinstance(its_parser, CommandParser) else ""
        words = EXPORT_FORMATS if "FORMAT" in given else words
        described.append(
            Command(name, COMMANDS[name][0], flags, any(word in NAMES for word in given), words, arguments)
        )
    return described


def _find_names(arguments: Sequence[str]) -> list[str]:
    """Find process types, then groups, then processes; nothing if the files cannot be read.

    For `scale` only the types, each with the `=` that precedes the number.
    """
    from procreaper.cli.app.plan_source import inspect_files
    from procreaper.project.configure import Options

    kept: list[str] = []
    for flag, value in pairwise(arguments):
        if flag in PROJECT_FLAGS:
            kept += [flag, value]
    given = parse([*kept, "check"])
    values = {field: getattr(given, field) for field in Options._fields if hasattr(given, field)}
    try:
        project, configuration = inspect_files(Options(**values))
    except (ProcreaperError, OSError):
        return []
    types = [kind.name for kind in project.types]
    if "scale" in arguments:
        return [f"{os.fsdecode(name)}=" for name in types]
    groups = [] if project.settings is None else list(project.settings.document.groups)
    instances = [process.name for process in configuration.plan.processes]
    return [os.fsdecode(name) for name in dict.fromkeys((*types, *groups, *instances))]


def _quote(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def _spellings(flags: Iterable[Flag]) -> list[str]:
    return [spelling for flag in flags for spelling in flag.spellings]


BASH = r"""# bash completion for procreaper; load it with: eval "$(procreaper completion bash)"
_procreaper() {
    local current=${COMP_WORDS[COMP_CWORD]} previous= command= word flags words= kind=
    ((COMP_CWORD > 0)) && previous=${COMP_WORDS[COMP_CWORD - 1]}
    for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
        case $word in
            @COMMANDS@) command=$word; break ;;
        esac
    done
    case $command in
@CASES@
    esac
    case $previous in
        @FILES@) COMPREPLY=($(compgen -f -- "$current")); compopt -o filenames 2>/dev/null; return ;;
        @DIRECTORIES@) COMPREPLY=($(compgen -d -- "$current")); compopt -o filenames 2>/dev/null; return ;;
@WORDS@
        @NAMED@) kind=list ;;
        @OTHERS@) COMPREPLY=(); return ;;
    esac
    if [[ $kind != list && $current == -* ]]; then
        COMPREPLY=($(compgen -W "$flags" -- "$current"))
        return
    fi
    if [[ $kind == list || $words == names ]]; then
        local last=${current##*,} before=
        [[ $current == *,* ]] && before=${current%,*},
        words=$(procreaper completion names "${COMP_WORDS[@]:1}" 2>/dev/null)
        COMPREPLY=($(compgen -P "$before" -W "$words" -- "$last"))
        [[ $command == scale ]] && compopt -o nospace 2>/dev/null
        return
    fi
    COMPREPLY=($(compgen -W "$words" -- "$current"))
}
complete -F _procreaper procreaper"""


def _bash(found: Sequence[Command]) -> str:
    cases = []
    for command in found:
        given = "names" if command.takes_names else " ".join(command.words)
        flags = " ".join(_spellings(command.flags))
        cases.append(f"        {command.name}) flags={_quote(flags)} words={_quote(given)} ;;")
    names = " ".join(command.name for command in found)
    top = " ".join(_spellings(_common_flags(found)))
    cases.append(f"        *) flags={_quote(top)} words={_quote(names)} ;;")
    choices = [
        f'        {flag}) COMPREPLY=($(compgen -W {_quote(" ".join(words))} -- "$current")); return ;;'
        for flag, words in WORDS.items()
    ]
    return _fill_template(BASH, found, COMMANDS="|".join(command.name for command in found), CASES=cases, WORDS=choices)


ZSH = r"""#compdef procreaper
# zsh completion for procreaper; load it with: eval "$(procreaper completion zsh)"
_procreaper_names() {
    local -a found
    found=(${(f)"$(procreaper completion names "${(@)words[2,-1]}" 2>/dev/null)"})
    compadd -a found
}
_procreaper_list() {
    local -a found
    found=(${(f)"$(procreaper completion names "${(@)words[2,-1]}" 2>/dev/null)"})
    _values -s , name $found
}
_procreaper() {
    local context state line
    local -a commands
    commands=(
@CASES@
    )
    local command= word
    for word in "${(@)words[2,CURRENT-1]}"; do
        if (( ${commands[(I)$word:*]} )); then command=$word; break; fi
    done
    case $command in
@ARGUMENTS@
        *) _arguments -s @COMMON@ '*:command:{_describe command commands}' ;;
    esac
}
if [[ $zsh_eval_context[-1] == loadautofunc ]]; then _procreaper "$@"; else compdef _procreaper procreaper; fi"""


def _zsh(found: Sequence[Command]) -> str:
    cases = [f"        {_quote(f'{command.name}:{command.help}')}" for command in found]
    arguments = []
    for command in found:
        words = " ".join(command.words)
        rest = "'*:name:_procreaper_names'" if command.takes_names else f"'*:word:({words})'" if words else "'*: : '"
        # `*` also matches the command itself, as it is a word of the line.
        arguments.append(f"        {command.name}) _arguments -s {_zsh_flags(command.flags)} {rest} ;;")
    return _fill_template(ZSH, found, CASES=cases, ARGUMENTS=arguments, COMMON=_zsh_flags(_common_flags(found)))


def _zsh_flags(flags: Iterable[Flag]) -> str:
    specs = []
    for flag in flags:
        told = re.sub(r"([\[\]:\\])", r"\\\1", flag.help)
        value = "" if flag.value is None else f":{flag.value.replace(':', ' ')}:{_zsh_action(flag)}"
        specs += [_quote(f"{spelling}[{told}]{value}") for spelling in flag.spellings]
    return " ".join(specs)


def _zsh_action(flag: Flag) -> str:
    choices = next((WORDS[spelling] for spelling in flag.spellings if spelling in WORDS), None)
    if choices is not None:
        return f"({' '.join(choices)})"
    if flag.value in FILES:
        return "_files"
    if flag.value in DIRECTORIES:
        return "_files -/"
    return "_procreaper_list" if flag.value in NAMES else " "


FISH = r"""# fish completion for procreaper; load it with: procreaper completion fish | source
function __procreaper_names
    procreaper completion names (commandline -opc)[2..] 2>/dev/null
end
function __procreaper_list
    set -l before (string match -r '^.*,' -- (commandline -ct))
    for name in (__procreaper_names)
        echo $before$name
    end
end
complete -c procreaper -f
@CASES@"""


def _fish(found: Sequence[Command]) -> str:
    names = " ".join(command.name for command in found)
    lines = []
    for command in found:
        lines.append(
            f"complete -c procreaper -n 'not __fish_seen_subcommand_from {names}' -a {command.name} "
            f"-d {_quote(command.help)}"
        )
        seen = f"complete -c procreaper -n '__fish_seen_subcommand_from {command.name}'"
        if command.takes_names:
            lines.append(f"{seen} -a '(__procreaper_names)'")
        if command.words:
            lines.append(f"{seen} -a {_quote(' '.join(command.words))}")
        lines += [f"{seen} {_fish_flag(flag)}" for flag in command.flags]
    return _fill_template(FISH, found, CASES=lines)


def _fish_flag(flag: Flag) -> str:
    spelled = [f"-l {text[2:]}" if text.startswith("--") else f"-s {text[1:]}" for text in flag.spellings]
    choices = next((WORDS[spelling] for spelling in flag.spellings if spelling in WORDS), None)
    if flag.value is None:
        value = ""
    elif choices is not None:
        value = f" -x -a {_quote(' '.join(choices))}"
    elif flag.value in FILES:
        value = " -r -F"
    elif flag.value in DIRECTORIES:
        value = " -x -a '(__fish_complete_directories)'"
    elif flag.value in NAMES:
        value = " -x -a '(__procreaper_list)'"
    else:
        value = " -x"
    return f"{' '.join(spelled)}{value} -d {_quote(flag.help)}"


def _common_flags(found: Sequence[Command]) -> list[Flag]:
    """The flags that may stand before the command: those that `check` and `start` share."""
    by_name = {command.name: command for command in found}
    return [flag for flag in by_name["start"].flags if flag in by_name["check"].flags]


def _fill_template(template: str, found: Sequence[Command], **parts: str | list[str]) -> str:
    flags = list(dict.fromkeys(flag for command in found for flag in command.flags if flag.value is not None))
    kinds = {
        "FILES": [flag for flag in flags if flag.value in FILES],
        "DIRECTORIES": [flag for flag in flags if flag.value in DIRECTORIES],
        "NAMED": [flag for flag in flags if flag.value in NAMES],
    }
    known = {flag for group in kinds.values() for flag in group}
    worded = {flag for flag in flags if set(flag.spellings) & set(WORDS)}
    kinds["OTHERS"] = [flag for flag in flags if flag not in known | worded]
    values = {name: "|".join(dict.fromkeys(_spellings(group))) for name, group in kinds.items()}
    values.update({name: part if isinstance(part, str) else "\n".join(part) for name, part in parts.items()})
    return re.sub(r"@([A-Z]+)@", lambda match: values[match[1]], template)
