"""Names: what may stand in one, and short ones for long texts and whole JSON values."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
"""What no name may hold: control characters (a terminal obeys them) and lone surrogates."""
DATE = "%Y-%m-%dT%H:%M:%S.%fZ"
"""Of runs, sessions, calibrations and entries, in UTC: it sorts by time."""


def digest(value: Any) -> str:
    """Sha256 (hex) of a JSON value in canonical form: sorted keys, no spaces."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def file_sha256(path: Path) -> str:
    """Sha256 (hex) of a file's content. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def words(text: str) -> str:
    """``text`` in letters, digits, ``.``, ``_`` and ``-`` alone: readable, but not unique."""
    return re.sub(r"[^A-Za-z0-9._]+", "-", text).strip("-.") or "unnamed"


def slug(text: str) -> str:
    """``text`` as it may stand in a file name and a pytest id; other texts get other slugs.

    ``org/name`` and ``module:function`` become ``org-name`` and ``module-function``. Any other
    text that is changed gets six digits of its sha256: ``a b`` is ``a-b-c8687a``.
    """
    readable = words(text)
    if readable == re.sub(r"(?<=[A-Za-z0-9._])[:/](?=[A-Za-z0-9._])", "-", text, count=1):
        return readable
    # A file name that is not UTF-8 holds surrogates.
    return f"{readable}-{hashlib.sha256(text.encode(errors='surrogatepass')).hexdigest()[:6]}"
