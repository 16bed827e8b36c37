"""The command that runs one test again, alone."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence

from pytest_vdb.baseline.remote import shown
from pytest_vdb.flags import OPTIONS

WRITES = {"json", "html", "markdown", "report_url", "update", "update_mode", "durations", "shard"}
"""What says where a run writes, or which part of it runs: no part of running one test again."""


def command(arguments: Sequence[str], nodeid: str) -> str:
    """``pytest NODEID`` with the plugin's flags of ``arguments``, quoted for a POSIX shell.

    Run it in pytest's root folder, where node ids start. What may be a secret is left out: user,
    password and query of a URL, and the command of a server, for which it has ``...``.
    """
    return shlex.join(["pytest", nodeid, *_flags(arguments)])


def _flags(arguments: Sequence[str]) -> Iterator[str]:
    left = iter(arguments)
    known = {"--" + option.dest.replace("_", "-"): option for option in OPTIONS}
    known |= {f"--vdb-{option.alias}": option for option in OPTIONS if option.alias}
    for argument in left:
        flag, _, value = argument.partition("=")
        option = known.get(flag)
        if option is None:
            continue
        whole = [argument] if value or not option.metavar else [argument, next(left, "")]
        if option.name == "serve":
            yield f"{flag}=..."
        elif option.name not in WRITES:
            yield from (_URL.sub(lambda url: shown(url[0]), part) for part in whole)


_URL = re.compile(r"[a-z][a-z0-9+.-]*://\S+")
