"""Folders outside the repository, and how places are told."""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

_URL = re.compile(r"[a-z][a-z0-9+.-]*://\S+", re.IGNORECASE)


def cache_folder() -> Path:
    """``pytest-vdb`` in the user's cache folder: what can be fetched or built anew."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "pytest-vdb"


def shown(url: str) -> str:
    """``url`` without what may be a secret: user, password and query."""
    try:
        parts = urlsplit(url)
    except ValueError:  # such as http://[x: none that anything could open
        return url.partition("://")[0] + "://..."
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def public(text: str) -> str:
    """``text`` with every URL in it as it may be `shown`."""
    return _URL.sub(lambda url: shown(url[0]), text)
