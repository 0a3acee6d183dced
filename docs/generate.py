"""Generate pages from the program: the reference of `.reaper.toml`, its schema, the man page, the tables of modules.

    python docs/generate.py            write the pages
    python docs/generate.py --check    fail if a page is out of date

Rules: all texts come from the program, except the frame of each page.
"""

from __future__ import annotations

import argparse
import ast
import json
import re
import sys
from pathlib import Path
from typing import Any

from procreaper.cli.commands.completion import Command, Flag, list_commands
from procreaper.cli.parser import DESCRIPTION
from procreaper.project.schema import json_schema

DOCS = Path(__file__).resolve().parent
Schema = dict[str, Any]
MODULES_BEGIN, MODULES_END = "<!-- modules: made by docs/generate.py -->", "<!-- end of modules -->"
PACKAGES = ("core", "project", "output", "runtime", "remote", "export", "library", "cli")

SETTINGS = """# `.reaper.toml`

The settings of a project, in the application root beside the `Procfile`; `--config FILE` names another file. Without
settings, procreaper does what foreman and honcho do. This page is generated from the definition that `procreaper check`
uses. Editors with JSON Schema can use [reaper.schema.json](reaper.schema.json), which `procreaper schema` prints. For
editors with Taplo (VS Code: *Even Better TOML*), make this the first line of the file:

```toml
#:schema ./reaper.schema.json
```

Five rules:

- Each feature has one key: a plain value for the usual case, a table for the rest.
- Durations are `"500ms"`, `"10s"`, `"1m30s"`; a number without a unit means seconds.
- Keys that answer "when?" take `never`, `on-failure` or `always`.
- `[defaults]` takes every key of a process.
- An unknown key is an error, with a suggestion.
"""
MAN = r""".\" Made by docs/generate.py.
.TH PROCREAPER 1 "" "procreaper" "User Commands"
.SH NAME
procreaper \- run the processes of a Procfile, and supervise them
.SH SYNOPSIS
.B procreaper
.I COMMAND
.RI [ OPTION ...]
.SH DESCRIPTION
"""
MAN_END = r""".SH FILES
.TP
.I Procfile
One process type per line: a name, a colon, a shell command.
.TP
.I .env
The environment of all processes.
.TP
.I .reaper.toml
The supervision of each process type; `procreaper schema` prints the JSON Schema.
.TP
.I .foreman
Defaults for the options, in foreman's format.
.SH ENVIRONMENT
.TP
.B PORT
The port of the first process type, if neither \-p nor .env sets it.
.TP
.B PROCFILE
The path of the Procfile, if \-f is not given.
.TP
.BR NO_COLOR ", " FORCE_COLOR
Never colour; always colour.
.TP
.B XDG_RUNTIME_DIR
The control socket of a running app is in a private directory there. Without this variable it is in /tmp, or in
XDG_STATE_HOME if another user has created the directory in /tmp.
.SH EXIT STATUS
The exit status of the process whose end stopped the app, 128+n for signal n; 0 on success. 130 after SIGINT, 143 after
SIGTERM, 129 after SIGHUP. 124 if a process was not healthy in time, 126 if a command cannot be run, 127 if it is not
found. 1 for an error in the project or in the request, 2 for an error in the command line.
.SH SEE ALSO
.BR honcho (1),
.BR foreman (1),
.BR systemd (1)
"""


def settings_page(schema: Schema) -> str:
    """Return the reference of `.reaper.toml`."""
    definitions = schema["$defs"]
    parts = [SETTINGS]
    document = definitions["Document"]["properties"]
    parts.append("## `[process.NAME]` and `[defaults]`\n\n" + document["process"]["description"] + "\n")
    parts.append(_table(definitions["ProcessSettings"], definitions))
    for name, prop in definitions["ProcessSettings"]["properties"].items():
        if (inner := _inner(prop, definitions)) is not None:
            parts.append(f"### `{name}` as a table\n\n{inner['description']}\n")
            parts.append(_table(inner, definitions))
    for name, prop in document.items():
        if name in ("process", "defaults"):
            continue
        inner = _inner(prop, definitions)
        described = prop.get("description") or (inner or {}).get("description", "")
        parts.append(f"## `[{name}]`\n\n{described}\n")
        if inner is not None:
            parts.append(_table(inner, definitions))
        elif prop.get("examples"):
            parts.append(f"For example `{_toml(prop['examples'][0])}`.\n")
    return "\n".join(parts)


def _inner(prop: Schema, definitions: Schema) -> Schema | None:
    """Return the definition of the table that a key may have, or None."""
    if "$ref" in prop:
        found: Schema = definitions[prop["$ref"].rpartition("/")[2]]
        return found
    further = prop.get("additionalProperties")
    choices = [*prop.get("anyOf", ()), *([further] if isinstance(further, dict) else ())]
    return next((found for choice in choices if (found := _inner(choice, definitions)) is not None), None)


def _table(definition: Schema, definitions: Schema) -> str:
    lines = ["| Key | Value | Default | Meaning |", "|-|-|-|-|"]
    for name, prop in definition["properties"].items():
        default = f"`{_toml(prop['default'])}`" if prop.get("default") not in (None, {}, []) else ""
        meaning = prop.get("description", "")
        examples = prop.get("examples", ())
        if examples and prop.get("title") not in ("duration", "size", "signal"):
            meaning += f" For example {', '.join(f'`{_toml(example)}`' for example in examples)}."
        cells = (f"`{name}`", _kind(prop, definitions), default, meaning.replace("|", "\\|"))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _kind(prop: Schema, definitions: Schema) -> str:
    """Describe the type of a value in a few words."""
    if prop.get("title") in ("duration", "size"):
        return str(prop["title"])
    if "enum" in prop:
        return " or ".join(f"`{word}`" for word in sorted(map(str, prop["enum"])))
    if "$ref" in prop:
        return "table"
    if "anyOf" in prop:
        return " or ".join(dict.fromkeys(_kind(choice, definitions) for choice in prop["anyOf"]))
    if prop.get("type") == "array":
        return f"list of {_kind(prop.get('items', {}), definitions)}"
    names = {"boolean": "true or false", "object": "table", "integer": "whole number", "string": "text"}
    return names.get(str(prop.get("type")), str(prop.get("type", "value")))


def _toml(value: object) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_toml(item)}" for key, item in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


def man_page(found: list[Command]) -> str:
    """Return the man page, in roff."""
    parts = [
        MAN,
        _roff(f"{DESCRIPTION}. `procreaper help` lists the commands."),
        "\n.SH COMMANDS\n",
    ]
    by_name = {command.name: command for command in found}
    common = [flag for flag in by_name["start"].flags if flag in by_name["check"].flags]
    for command in found:
        title = _roff(f"{command.name} {command.arguments}".rstrip())
        parts.append(f'.SS "{title}"\n{_roff(_sentence(command.help))}\n')
        parts += [_option(flag) for flag in command.flags if flag not in common and "--help" not in flag.spellings]
    parts.append(".SH COMMON OPTIONS\n")
    parts += [_option(flag) for flag in common]
    parts.append(MAN_END)
    return "".join(parts)


def _option(flag: Flag) -> str:
    value = "" if flag.value is None else rf" \fI{_roff(flag.value)}\fR"
    spelled = ", ".join(rf"\fB{_roff(spelling)}\fR{value}" for spelling in flag.spellings)
    return f".TP\n{spelled}\n{_roff(_sentence(flag.help))}\n"


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + "."


def _roff(text: str) -> str:
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return "\\&" + text if text[:1] in (".", "'") else text


def architecture_page(page: str) -> str:
    """Return the architecture page with its tables of modules, which show the first sentence of each docstring."""
    before, begin, rest = page.partition(MODULES_BEGIN)
    _, end, after = rest.partition(MODULES_END)
    if not begin or not end:
        raise ValueError(f"architecture.md lacks `{MODULES_BEGIN}` or `{MODULES_END}`")
    return f"{before}{begin}\n{_packages()}{end}{after}"


def _packages() -> str:
    package = DOCS.parent / "procreaper"
    text = _module_table(sorted(package.glob("*.py")), package)
    for name in PACKAGES:
        directory = package / name
        summary = _docstring(directory / "__init__.py")
        text += f"### `{name}/`\n\n{summary}\n\n" + _module_table(sorted(directory.rglob("*.py")), directory)
    return text


def _module_table(paths: list[Path], package: Path) -> str:
    rows = []
    for path in paths:
        name = str(path.relative_to(package).with_suffix("")).replace("/", ".")
        if name == "__init__":
            continue
        sentence = re.split(r"\.(?:\s|$)", _docstring(path))[0]
        purpose = " ".join(sentence.split()).replace("``", "`").replace("|", "&#124;")
        name = name.removesuffix(".__init__")
        rows.append((name, f"| `{name}` | {purpose} |\n"))
    return "| Module | Purpose |\n|-|-|\n" + "".join(row for _, row in sorted(rows)) + "\n"


def _docstring(path: Path) -> str:
    return ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""


def pages() -> dict[Path, str]:
    """Return the text of every page, by its path."""
    schema = json_schema()
    return {
        DOCS / "settings.md": settings_page(schema),
        DOCS / "reaper.schema.json": json.dumps(schema, indent=2, ensure_ascii=False) + "\n",
        DOCS / "procreaper.1": man_page(list_commands()),
        DOCS / "architecture.md": architecture_page((DOCS / "architecture.md").read_text(encoding="utf-8")),
    }


def main(arguments: list[str]) -> int:
    """Write the pages, or check that they are current. Return the exit status."""
    parser = argparse.ArgumentParser(description="Generate the pages that come from the program.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a page is out of date")
    check: bool = parser.parse_args(arguments).check
    stale = [path for path, text in pages().items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    if check:
        for path in stale:
            print(f"docs/{path.name} is out of date: run docs/generate.py", file=sys.stderr)
        return 1 if stale else 0
    for path, text in pages().items():
        path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
