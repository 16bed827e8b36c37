"""The command that runs one test again, alone."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence

from pytest_vdb.flags import OPTIONS
from pytest_vdb.places import public
from pytest_vdb.records import Json
from pytest_vdb.report.writers import WRITERS

WRITES = {*WRITERS, "json", "keep", "report_url", "update", "update_mode", "durations", "shard"}
"""What says where a run writes, or which part of it runs: no part of running one test again."""

COMMANDS = {"serve", "base_setup"}
"""Shell commands, which may hold a key."""


def command(arguments: Sequence[str], nodeid: str) -> str:
    """``pytest NODEID`` with the plugin's flags of ``arguments``, quoted for a POSIX shell.

    Run it in pytest's root folder, where node ids start. What may be a secret is left out: user,
    password and query of a URL, and commands of a server and of the base's setup (``...``).
    """
    return shlex.join(["pytest", nodeid, *flags(arguments)])


def of(run: Mapping[str, Json], nodeid: str) -> str:
    """`command` of a test of ``run`` (docs/json.md); empty where that does not know its flags.

    The run may come from anybody: a node id that is an option, or names a file of them (``@file``),
    is no test.
    """
    given = run.get("flags")
    if not isinstance(given, list) or nodeid.startswith(("-", "@")):
        return ""
    return command(given, nodeid) if all(isinstance(one, str) for one in given) else ""


def flags(arguments: Sequence[str]) -> Iterator[str]:
    """Those of the plugin that decide what runs, without what may be a secret. Idempotent."""
    left = iter(arguments)
    known = {option.typed: option for option in OPTIONS}
    known |= {f"--vdb-{option.alias}": option for option in OPTIONS if option.alias}
    for argument in left:
        flag, equals, _ = argument.partition("=")
        option = known.get(flag)
        if option is None:
            continue
        whole = [argument] if equals or not option.metavar else [argument, next(left, "")]
        if option.name in COMMANDS:
            yield f"{flag}=..."
        elif option.name not in WRITES:
            yield from map(public, whole)
