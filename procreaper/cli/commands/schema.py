"""`schema`: print the JSON Schema of `.reaper.toml`, for editors."""

from __future__ import annotations

import json

from procreaper.cli.messages import print_result
from procreaper.project.schema import json_schema


def print_schema() -> int:
    """Print the schema."""
    print_result(json.dumps(json_schema(), indent=2))
    return 0
