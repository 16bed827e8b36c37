"""Which code would run, told by its content: the source trees on ``sys.path``, and all packages.

A version is not enough: an editable install, a wheel that was built twice and an edit that nobody
committed all keep it.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Sequence
from importlib.metadata import Distribution, distributions
from pathlib import Path
from urllib.parse import unquote, urlsplit

from pytest_vdb import gitrepo
from pytest_vdb.errors import NoBase, Unidentified
from pytest_vdb.names import digest, file_sha256

LOOSE = 256 * 2**20
"""Bytes of uncommitted files in one repository beyond which nobody reads them all."""

COMPILED = frozenset(
    (*(".py", ".so", ".pyd", ".dll", ".dylib", ".ptx", ".cubin", ".hsaco"), ".cu", ".json", ".yaml")
)
"""Suffixes of files that decide what runs although git ignores them, as in-place builds are."""
PASSED = frozenset({"__pycache__", ".pytest_cache", "site-packages", "dist-packages"})
"""Folders that follow from the rest, or that the packages' own records cover."""

SUBMODULE = "160000"  # git's mode

ENVIRONMENT = (
    *("TORCH", "PYTORCH_", "ATEN_", "CUDA_", "CUBLAS_", "CUDNN_", "NVIDIA_", "NCCL_"),
    *("OMP_", "MKL_", "KMP_", "ONEDNN_", "DNNL_", "OPENBLAS_"),
    *("DIFFUSERS_", "XFORMERS_", "FLASH_ATTENTION_", "TRITON_"),
)
"""How the names of variables begin that choose kernels."""
ANY_OF_A_KIND = frozenset({"CUDA_VISIBLE_DEVICES"})
"""Which of equal devices it is decides nothing; their names are part of the environment."""


def code_identity(root: Path, outputs: Iterable[Path] = ()) -> dict[str, str]:
    """Digests that change with whatever code a generation below ``root`` could run.

    ``outputs`` are files and folders that runs write, and that decide nothing. Raises Unidentified
    for a folder on ``sys.path`` whose content nothing tells.
    """
    packages = list(distributions())
    skip = [path.resolve() for path in outputs]
    try:
        roots = {root.resolve(), *_loose_roots(), *_editable(packages)}
        installed = sorted(map(_package, packages))
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise Unidentified(f"the installed packages cannot be told: {error!r}") from None
    trees = {_tree(folder, skip) for folder in roots}
    variables = {
        name: value
        for name, value in os.environ.items()
        if name.startswith(ENVIRONMENT)
        and name not in ANY_OF_A_KIND
        # Libraries set these themselves, while they run.
        and not name.endswith("_CACHE_DIR")
    }
    return {
        "trees": digest(sorted(trees)),
        "packages": digest(installed),
        "variables": digest(variables),
        "python": sys.version,
    }


def _loose_roots() -> Iterator[Path]:
    """What is on ``sys.path`` and neither Python's own nor installed."""
    names = ("stdlib", "platstdlib", "purelib", "platlib", "scripts")
    own = [Path(sysconfig.get_path(name)).resolve() for name in names]
    for entry in sys.path:
        path = Path(entry or os.curdir).resolve()
        installed = PASSED & set(path.parts) or any(path.is_relative_to(one) for one in own)
        if path.exists() and not installed:
            yield path


def _editable(packages: Iterable[Distribution]) -> Iterator[Path]:
    """Source folders of the packages that are installed in place."""
    for package in packages:
        text = package.read_text("direct_url.json")
        told = json.loads(text) if text else {}
        if told.get("dir_info", {}).get("editable"):
            yield Path(unquote(urlsplit(told["url"]).path)).resolve()


def _package(package: Distribution) -> str:
    """Name, version, and the hashes of its files as the installer wrote them down."""
    record = package.read_text("RECORD") or ""
    return f"{package.name} {package.version} {hashlib.sha256(record.encode()).hexdigest()}"


def _tree(folder: Path, skip: Sequence[Path]) -> str:
    """Sha256 of the content of the repository that holds ``folder``; of a file, its own."""
    if folder.is_file():
        return _file(folder)
    try:
        return _repository(gitrepo.top(folder), skip)
    except NoBase as error:
        raise Unidentified(
            f"what {folder} holds is not known, since git does not tell: "
            f"{str(error).splitlines()[-1].strip(' |')}"
        ) from None


def _repository(top: Path, skip: Sequence[Path]) -> str:
    """The committed tree, what differs from it, and what it does not know. Raises NoBase."""
    inside = [p for p in skip if p.is_relative_to(top.resolve()) and p != top.resolve()]
    but = [".", *(f":(exclude,literal){p.relative_to(top.resolve())}" for p in inside)]
    none = gitrepo.git(top, "hash-object", "-t", "tree", os.devnull)
    head = "HEAD" if gitrepo.commit(top, "HEAD") else none  # nothing is committed yet
    parts = [gitrepo.git(top, "rev-parse", f"{head}^{{tree}}")]
    how = ("--binary", "--no-ext-diff", "--no-textconv", "--no-color")
    changed = gitrepo.output(["git", "-C", str(top), "diff", *how, head, "--", *but])
    parts.append(hashlib.sha256(changed).hexdigest())
    names = _listed(top, "--others", "--exclude-standard", "--", *but)
    hidden = _listed(top, "--others", "--ignored", "--exclude-standard", "--", *but)
    names += [name for name in hidden if name.endswith("/") or Path(name).suffix in COMPILED]
    names = sorted(name for name in names if not PASSED & {*Path(name).parts})
    parts += _contents(top, names)
    stages = (line.partition("\t") for line in _listed(top, "--stage"))
    nested = [name for mode, _, name in stages if mode.startswith(SUBMODULE)]
    nested += [name for name in names if name.endswith("/")]  # a repository that nobody added
    parts += [_repository(top / name, skip) for name in nested if (top / name / ".git").exists()]
    return digest(parts)


def _listed(top: Path, *how: str) -> list[str]:
    found = gitrepo.output(["git", "-C", str(top), "ls-files", "-z", *how])
    return [os.fsdecode(name) for name in found.split(b"\0") if name]


def _contents(top: Path, names: Iterable[str]) -> Iterator[str]:
    """Each file's name and hash. Raises Unidentified for too much of it."""
    read = 0
    for name in names:
        path = top / name
        if not path.is_file():
            continue  # a link that leads nowhere, or a repository of its own
        read += path.stat().st_size
        if read > LOOSE:
            raise Unidentified(
                f"{top} has over {LOOSE // 2**20} MiB of files that are not committed "
                f"({name} among them): commit them, or move them out"
            )
        yield f"{os.fsencode(name)!r} {_file(path)}"


def _file(path: Path) -> str:
    try:
        return file_sha256(path)
    except OSError as error:
        raise Unidentified(f"{path} cannot be read: {error.strerror}") from None
