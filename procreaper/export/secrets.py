"""Recognise variables that look like secrets, so that an export does not contain their values.

Rules: pure, and on the safe side: better ask for a harmless value than write a password into a repository.
"""

from __future__ import annotations

import re

# Words that mean a secret wherever they stand in a name, and those that do so as a word of their own.
_NAME = re.compile(
    r"SECRET|PASSW|PASSPHRASE|TOKEN|CREDENTIAL|APIKEY|PRIVATE|(?:^|_)(?:KEYS?|PASS|PWD|AUTH|DSN|SALT|CERT)(?:_|$)"
    r"|KEY$",
    re.IGNORECASE,
)
_CREDENTIALS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^/?#\s@]*:[^/?#\s]+@")
_VALUE = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY|\bAKIA[0-9A-Z]{16}\b|\bgh[opsu]_\w{20}|\bglpat-[\w-]{20}|\b[rs]k_live_\w{10}"
    r"|\bxox[abprs]-[\w-]{10}|\beyJ[\w-]+\.eyJ[\w-]+\."
)


def looks_secret(name: str, value: str) -> bool:
    """Whether a variable is one that should not be written down: by its name, or by what its value is.

    >>> looks_secret("SECRET_KEY", "x"), looks_secret("CACHE", "redis://:pw@cache:6379"), looks_secret("DEBUG", "1")
    (True, True, False)
    """
    return any((_NAME.search(name), _CREDENTIALS.search(value), _VALUE.search(value)))


def has_credentials(text: str) -> bool:
    """Whether a text, such as a command, has a URL with a password in it."""
    return _CREDENTIALS.search(text) is not None
