"""Policy as the base ref has it: under ``--vdb-baseline-ref`` a change cannot loosen its own gate.

What the ini file under test says of `POLICY` is replaced by what the ref's says, also where it says
it as flags in ``addopts``. Flags of the command itself hold: they are the workflow's.
"""

from __future__ import annotations

import os
import shlex
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pytest_vdb.errors import BadSetting
from pytest_vdb.flags import OPTIONS, Option
from pytest_vdb.gitrepo import Ref
from pytest_vdb.options import Layers, read

POLICY = frozenset(
    {
        *("tolerance", "guard_m", "gate", "missing", "inconclusive", "require", "sessions"),
        *("baselines", "store", "accepted", "honour_accepted", "update", "update_mode"),
        *("base", "base_setup", "budget", "ab_processes", "ab_steps"),
        *("pool", "crowded", "run_source", "prove", "prove_min"),
    }
)
"""Settings that decide what a measurement is held to, and what a verdict does."""

Ini = Mapping[str, Any]


def layers(config: pytest.Config, ours: Layers, ref: Ref) -> Layers:
    """``ours`` with the policy of ``ref``. Raises BadSetting, and NoBase where git fails."""
    theirs = ini_of(ref, config.rootpath, _named(config))
    chosen = [option for option in OPTIONS if option.target in POLICY]
    ini = {key: value for key, value in ours.ini.items() if key not in POLICY}
    cli = {key: value for key, value in ours.cli.items() if key not in POLICY}
    flags = _flags(config, theirs)
    overridden = dict(pair.split("=", 1) for pair in flags.override_ini or [] if "=" in pair)
    for option in chosen:
        raw = _typed(option, {**theirs, **overridden}.get(option.dest))
        if raw is not None:
            ini[option.target] = read(option, raw, f"ini option {option.dest} at {ref}")
        raw = None if option.ini_only else getattr(flags, option.dest)
        if raw is not None:
            cli[option.target] = read(option, raw, "--" + option.dest.replace("_", "-"))
    return replace(ours, ini=ini, cli=cli)


def ini_of(ref: Ref, root: Path, named: str | None = None) -> Ini:
    """Pytest's ini options as ``ref`` has them in ``root``; empty where it has none.

    The file is the one that pytest would find there, or the one that ``-c`` has ``named``.
    """
    for name in [named] if named else NAMES:
        below = ref.below(root / name)
        content = ref.read(below) if below is not None else None
        if content is None:
            continue
        try:
            found = parse_ini(Path(name).name, content)
        except BadSetting as error:
            raise BadSetting(f"at {ref}: {error}") from None
        if found is not None:
            return found
    return {}


def parse_ini(name: str, content: bytes) -> Ini | None:
    """What pytest reads in a file called ``name``; None where that is no configuration of it.

    Raises BadSetting for one that cannot be read.
    """
    from _pytest.config.findpaths import load_config_dict_from_file

    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch, name)
        copy.write_bytes(content)
        try:
            found = load_config_dict_from_file(copy)
        except (pytest.UsageError, ValueError) as error:
            raise BadSetting(f"{name} cannot be read: {error}") from None
    if found is None:
        return None
    # pytest 9 wraps a value in what it knows of its origin
    return {key: getattr(value, "value", value) for key, value in found.items()}


NAMES = (
    *("pytest.toml", ".pytest.toml", "pytest.ini", ".pytest.ini"),
    *("pyproject.toml", "tox.ini", "setup.cfg"),
)
"""Where pytest looks for its configuration, first one first."""


def _named(config: pytest.Config) -> str | None:
    """The file of ``-c``, from pytest's root."""
    given: str | None = config.getoption("inifilename")
    return str(config.invocation_params.dir / given) if given else None


def _flags(config: pytest.Config, theirs: Ini) -> Any:
    """The command line as it would be with the ref's ``addopts``."""
    given = theirs.get("addopts") or ()
    args = shlex.split(given) if isinstance(given, str) else [str(one) for one in given]
    args += shlex.split(os.environ.get("PYTEST_ADDOPTS", ""))
    args += [str(one) for one in config.invocation_params.args]
    return config._parser.parse_known_args(args)


def _typed(option: Option, value: Any) -> Any:
    """A value of an ini file as ``config.getini`` would give it."""
    if value is None or value == "" or value == []:
        return None
    if option.flag:
        return str(value).strip().lower() in ("1", "true", "yes", "y", "on", "t")
    if option.many and isinstance(value, str):
        return [line.strip() for line in value.splitlines() if line.strip()]
    return [str(one) for one in value] if isinstance(value, list) else str(value)
