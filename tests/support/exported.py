"""Apps to export: from whole projects, and with single values that few formats can express directly."""

from __future__ import annotations

import re
from pathlib import Path

from hypothesis import strategies as st

from procreaper.core.plan import Process
from procreaper.export.app import Choices, make_app
from procreaper.export.exporter import App, Exported, Rendered
from procreaper.project.configure import Options, inspect_project, raise_errors

PROCFILE = "web: gunicorn shop:app --bind 0.0.0.0:$PORT\nworker: celery -A shop worker\n"

# The full example of the reference, and a web server and a queue that others wait for.
SETTINGS = """
[defaults]
restart = "on-failure"

[groups]
backend = ["db", "web", "worker"]

[process.db]
command = "postgres -D ./data"
stop = { signal = "SIGINT", timeout = "30s" }
health = { exec = "pg_isready -q", log = "ready to accept connections", start_timeout = "2m" }
log = { file = "log/db.log", max_size = "10MB", max_files = 3 }

[process.migrate]
command = ["python", "manage.py", "migrate"]
oneshot = true
restart = "never"
depends_on = ["db"]

[process.queue]
command = "redis-server --port 6379"
health = "tcp://127.0.0.1:6379"
stop_all = "on-failure"
stop = { command = "redis-cli shutdown", timeout = "10s" }

[process.web]
depends_on = { db = { condition = "healthy", restart = true }, migrate = "completed", queue = "healthy" }
health = { http = "http://127.0.0.1:$PORT/healthz?full=1", status = [200, 204], interval = "10s", retries = 3 }
watch = { paths = ["app", "config/*.{toml,ini}"], ignore = ["*_test.py", "app/static", "!keep.py"], debounce = "1s" }
concurrency = 3

[process.worker]
concurrency = 2
restart = "always"
max_retries = 10
backoff = { initial = "2s", max = "30s", reset = "45s" }
success_codes = [0, "SIGTERM"]
env = { LOG_LEVEL = "debug", DEBUG = false, QUEUE = "redis://localhost:6379" }
hooks = { on_fail = "notify-send \\"$REAPER_NAME died ($REAPER_EXIT_CODE)\\"" }
depends_on = ["web"]
cwd = "jobs"

[process.css]
command = "sass styles"
watch = { paths = ["styles"], run = "make css", signal = "SIGHUP" }
autostart = false
pty = true

[process.tunnel]
command = "ssh -N db"
detached = true
log = "log/tunnel.log"
"""
ENVIRONMENT = "SECRET_KEY=hunter2\nDATABASE_URL=postgres://shop:hunter3@db.internal/shop\nDEBUG=yes\n"

# Texts that become values of another type if they are not quoted.
NASTY = (
    *("", " ", "yes", "No", "y", "null", "~", "1", "1e3", "0x1f", "22:22", ".5", "-1", "- a", "a: b", "a #b", "# a"),
    *("'", '"', "\\", "a\\nb", "a\nb", "a\n", "\ta", " a ", "$HOME", "${HOME}", "$(HOME)", "$$", "$$(A)", "100%", "%n"),
    *("{a}", "[a]", "*a", "&a", "!a", "|", ">", "@a", "`a`", "?", "a,b", "=", "<<", "<a>&amp;]]>", "é", "漢字", "😀"),
    *("\u2028", "\x85", "\x7f", "\ufeff", "2026-01-01", "---", "..."),
)
# All texts that can be a variable or an argument, and stand in a UTF-8 file.
TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])) | st.sampled_from(NASTY)
SHELL_TEXTS = st.text("$(){} ABCDE:?-'\"\\", max_size=12) | TEXTS


def app_of(
    directory: Path, procfile: str = PROCFILE, settings: str | None = None, env: str = "", **choices: str
) -> App:
    """Write a project into `directory`, and return its app."""
    (directory / "Procfile").write_text(procfile)
    if settings is not None:
        (directory / ".reaper.toml").write_text(settings)
        (directory / "jobs").mkdir(exist_ok=True)
    if env:
        (directory / ".env").write_text(env)
    options = Options(app_root=str(directory))
    project, configuration = inspect_project(options, {"PATH": "/bin"})
    raise_errors(configuration.warnings)
    return make_app(project, configuration, options, Choices(**{"app": "shop", **choices}))


def full_app(directory: Path, **choices: str) -> App:
    """Return an app that uses every setting."""
    return app_of(directory, settings=SETTINGS, env=ENVIRONMENT, **choices)


def app_with(
    command: str | tuple[str, ...] = "run", environment: dict[str, str] | None = None, **fields: object
) -> App:
    """Return an app with one process, `web.1`."""
    process = Process("web.1", command)._replace(**{"cwd": "/srv/shop", **fields})
    exported = Exported(process, environment or {}, port=5000)
    return App("shop", "/srv/shop", "shop", "/var/log/shop", "/bin/sh", (exported,), image="shop:1")


def told(rendered: Rendered) -> str:
    """Return all warnings as the command shows them."""
    return "\n".join(re.sub(r"^.*/(?=\.reaper)", "", str(problem)) for problem in rendered.warnings)
