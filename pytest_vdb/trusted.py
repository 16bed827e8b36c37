"""Policy as the base ref has it: under ``--vdb-baseline-ref`` a change cannot loosen its own gate.

What the ini file under test says of `POLICY` is replaced by what the ref's says, also where it says
it as flags in ``addopts``. Flags of the command itself hold: they are the workflow's.
"""

from __future__ import annotations

import os
import shlex
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from _pytest.config.findpaths import get_dirs_from_args

from pytest_vdb.errors import BadSetting
from pytest_vdb.flags import OPTIONS, Option
from pytest_vdb.gitrepo import Ref
from pytest_vdb.options import Layers, read

POLICY = frozenset(
    {
        *("tolerance", "guard_m", "gate", "missing", "inconclusive", "require", "sessions"),
        *("baselines", "store", "accepted", "honour_accepted", "update", "update_mode"),
        *("base", "base_setup", "budget", "ab_processes", "ab_steps"),
        *("pool", "crowded", "run_source", "prove", "prove_min", "sweep", "sweep_mode"),
        *("reuse", "reuse_folder", "reuse_size"),
    }
)
"""Settings that decide what a measurement is held to, and what a verdict does."""

Ini = Mapping[str, Any]


def layers(config: pytest.Config, ours: Layers, ref: Ref) -> Layers:
    """``ours`` with the policy of ``ref``. Raises BadSetting, and NoBase where git fails."""
    theirs = _ini_of(config, ref)
    chosen = [option for option in OPTIONS if option.target in POLICY]
    ini = {key: value for key, value in ours.ini.items() if key not in POLICY}
    cli = {key: value for key, value in ours.cli.items() if key not in POLICY}
    flags = _flags(config, theirs.get("addopts") or ())
    overridden = dict(pair.split("=", 1) for pair in flags.override_ini or [] if "=" in pair)
    for option in chosen:
        raw = _typed(option, {**theirs, **overridden}.get(option.dest))
        if raw is not None:
            ini[option.target] = read(option, raw, f"ini option {option.dest} at {ref}")
        raw = None if option.ini_only else getattr(flags, option.dest)
        if raw is not None:
            cli[option.target] = read(option, raw, option.typed)
    return replace(ours, ini=ini, cli=cli)


def _ini_of(config: pytest.Config, ref: Ref) -> Ini:
    """Pytest's ini options as ``ref`` has them; empty where it has none.

    The file is the one of ``-c``, or the one that pytest would find at ``ref``. Raises BadSetting
    where the change's own files give pytest another root, and the command names none.
    """
    given = command(config)
    here = config.invocation_params.dir
    if given.inifilename:
        return _read_ini(ref, here / given.inifilename) or {}
    folders = [*map(Path, get_dirs_from_args(given.file_or_dir))]
    ancestor = Path(os.path.commonpath(folders)) if folders else here
    root, found = find_ini(ref, (ancestor, *folders))
    ours = config.rootpath if config.inipath else None
    if given.rootdir is None and (root and ref.below(root)) != (ours and ref.below(ours)):
        shown = os.path.relpath(root or here, here)
        raise BadSetting(
            f"pytest's configuration lies in {ours or 'no folder'} here and in "
            f"{root or 'no folder'} at {ref}: a file that this change adds or deletes would decide "
            f"which policy holds and where baselines lie; name the root in the command, as in "
            f"--rootdir={shown}"
        )
    return found


def find_ini(ref: Ref, starts: Iterable[Path]) -> tuple[Path | None, Ini]:
    """The root that pytest would find at ``ref``, going up from ``starts``, and its options there.

    As pytest does: the first file that configures it, else the first pyproject.toml.
    """
    project = None
    for start in starts:
        for folder in (start, *start.parents):
            if ref.below(folder) is None:
                break
            for name in NAMES:
                found = _read_ini(ref, folder / name)
                if found is not None:
                    return folder, found
                if name == "pyproject.toml" and project is None and _has(ref, folder / name):
                    project = folder
        if project is not None:
            break
    return project, {}


def _has(ref: Ref, path: Path) -> bool:
    below = ref.below(path)
    return below is not None and ref.read(below) is not None


def _read_ini(ref: Ref, path: Path) -> Ini | None:
    """What pytest reads in ``path`` at ``ref``; None for no file, and for none of its own."""
    below = ref.below(path)
    content = ref.read(below) if below is not None else None
    if content is None:
        return None
    try:
        return parse_ini(path.name, content)
    except BadSetting as error:
        raise BadSetting(f"at {ref}: {error}") from None


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


def command(config: pytest.Config) -> Any:
    """What the command and ``PYTEST_ADDOPTS`` say, without the ``addopts`` of any ini file."""
    return _flags(config, ())


def _flags(config: pytest.Config, addopts: str | Iterable[Any]) -> Any:
    """The command line as it would be with ``addopts`` of an ini file."""
    args = shlex.split(addopts) if isinstance(addopts, str) else [str(one) for one in addopts]
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
