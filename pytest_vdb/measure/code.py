"""Which code a process runs: where packages were imported from, and which versions they are."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

STACK = (
    *("torch", "diffusers", "transformers", "accelerate", "triton", "torchao"),
    *("flash_attn", "xformers", "sageattention", "bitsandbytes"),
)
"""Packages that decide what a generation computes and how fast."""


def loaded_code(roots: Sequence[str]) -> dict[str, str]:
    """``version path`` by ``code.<package>``: of `STACK`, and of what lies below ``roots``.

    ``roots`` are folders of ``sys.path`` that hold the code under test; what is installed
    (``site-packages``) counts as far as it is in `STACK`.
    """
    within = [Path(root).resolve() for root in roots if root and not _installed(root)]
    found = {}
    for name, module in sorted(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if "." in name or not file or name in ("__main__", "pytest_vdb"):
            continue
        path = Path(file).resolve()
        ours = any(path.is_relative_to(root) for root in within) and not _installed(str(path))
        if name in STACK or (ours and not path.is_relative_to(sys.base_prefix)):
            place = path.parent if path.name == "__init__.py" else path
            found[f"code.{name}"] = f"{version_of(name)} {place}".strip()
    return found


def _installed(path: str) -> bool:
    return bool({"site-packages", "dist-packages"} & set(Path(path).parts))


def version_of(name: str) -> str:
    """The installed version of an imported name's package, or an empty string."""
    try:
        return version(name.replace("_", "-"))
    except PackageNotFoundError:
        return ""
