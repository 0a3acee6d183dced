from __future__ import annotations

import json
import tomllib
from typing import Any

import jsonschema
import msgspec
import pytest

from procreaper.project.schema import Document, ProcessSettings, json_schema

MINIMAL = """
[process.web]
restart = "on-failure"
health = "http://127.0.0.1:$PORT/healthz"
depends_on = ["redis"]

[process.redis]
health = "tcp://127.0.0.1:6379"
"""

FULL = r"""
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
oneshot = true
restart = "never"
depends_on = ["db"]                      # waits until db is healthy

[process.web]
depends_on = { db = { condition = "healthy", restart = true }, migrate = "completed" }
health = { http = "http://127.0.0.1:$PORT/healthz", interval = "10s", retries = 3 }
watch = { paths = ["app", "config/*.toml"], ignore = ["*_test.py"], debounce = "100ms" }

[process.worker]
concurrency = 2
restart = "always"
max_retries = 10
backoff = { initial = "2s", max = "30s", reset = "45s" }
success_codes = [0, "SIGTERM"]
env = { LOG_LEVEL = "debug", DEBUG = false }
hooks = { on_fail = "notify-send \"$REAPER_NAME died ($REAPER_EXIT_CODE)\"" }

[process.css]
watch = { paths = ["styles"], run = "make css" }

[process.tunnel]
detached = true
log = "log/tunnel.log"
"""

OTHER = """
[defaults]
cwd = "."
env_file = ["a", "b"]
autostart = true
stop = "SIGTERM"
backoff = 2.5
restart = "on-failure:3"
pty = "auto"
[process.a]
command = ["a", "b"]
health = { tcp = "127.0.0.1:80", status = [200, 204] }
success_codes = []
pty = true
watch = ["a"]
log = { file = "x", max_size = 1024 }
[output]
format = "json"
timestamps = false
[control]
http = "127.0.0.1:9464"
[env]
files = ".env"
parser = "dotenv"
"""


def validator() -> Any:
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def test_each_key_has_its_own_description() -> None:
    tables = {name: table["properties"] for name, table in json_schema()["$defs"].items()}
    for name in tables.keys() - {"Document"}:
        meanings = [prop.get("description") for prop in tables[name].values()]
        assert all(meanings), name
        assert len(set(meanings)) == len(meanings), name


@pytest.mark.parametrize("text", ["", MINIMAL, FULL, OTHER])
def test_json_schema_accepts_valid_files(text: str) -> None:
    data = tomllib.loads(text)
    validator().validate(data)
    msgspec.convert(data, Document)


@pytest.mark.parametrize(
    "text",
    [
        "restart = 'always'",
        "[process.web]\nprot = 1",
        "[process.web]\nrestart = 'sometimes'",
        "[process.web]\nrestart = 'on-failure:0'",
        "[process.web]\nbackoff = '10'",
        "[process.web]\nbackoff = -1",
        "[process.web]\nbackoff = inf",
        "[process.web]\nbackoff = true",
        "[process.web]\nconcurrency = -1",
        "[process.web]\nmax_retries = 0",
        "[process.web]\ncommand = ''",
        "[process.web]\ncommand = []",
        "[process.web]\nsuccess_codes = [256]",
        "[process.web]\nhealth = { status = 99 }",
        "[process.web]\ndepends_on = { db = 'up' }",
        "[process.web]\nlog = { max_size = '10 apples' }",
        "[process.'a b']\noneshot = true",
        '[process."a\\n"]\noneshot = true',
        "[output]\nformat = 'xml'",
    ],
)
def test_json_schema_refuses_invalid_files(text: str) -> None:
    data = tomllib.loads(text)
    with pytest.raises(jsonschema.ValidationError):
        validator().validate(data)
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(data, Document)


def test_json_schema_has_the_form_that_editors_expect() -> None:
    schema = json.loads(json.dumps(json_schema()))
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["title"] == ".reaper.toml"
    for name, table in schema["$defs"].items():
        assert table["description"], name
        assert table["additionalProperties"] is False


def test_every_field_of_a_process_has_a_description() -> None:
    properties = json_schema()["$defs"]["ProcessSettings"]["properties"]
    assert set(properties) == set(ProcessSettings.__struct_fields__)
    assert all(field.get("description") for field in properties.values())


def test_every_example_in_the_schema_is_valid() -> None:
    schema = json_schema()
    for table in schema["$defs"].values():
        for field in table["properties"].values():
            for example in field.get("examples", []):
                jsonschema.Draft202012Validator({**field, "$defs": schema["$defs"]}).validate(example)
