"""What a node of a cluster is, as it says itself: its devices, and which pytest-vdb it has.

Nothing heavy is imported here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from pytest_vdb.environment import package, performance_environment, quality_environment
from pytest_vdb.errors import BadSetting

Look = dict[str, Any]


@cache
def code() -> str:
    """Sha256 (hex) over the plugin's own Python files: what a version number cannot tell."""
    root = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(f"{path.relative_to(root).as_posix()}\0".encode() + path.read_bytes())
    return digest.hexdigest()


def here(device: str, count: int) -> Look:
    """What the node that this runs on is, as builtins."""
    from pytest_vdb.parallel.lease import nvml_session

    with nvml_session() as nvml:
        handles = [] if nvml is None else range(nvml.nvmlDeviceGetCount())
        sizes = [
            nvml.nvmlDeviceGetMemoryInfo(nvml.nvmlDeviceGetHandleByIndex(i)).total for i in handles
        ]
    return {
        "gpu_memory": int(min(sizes, default=0)),
        "quality": quality_environment(device, count).to_json(),
        "performance": performance_environment(device, count=count).to_json(),
    }


def looking(device: str, count: int) -> Callable[[], Look]:
    """A task that travels as its own code, so that it also runs where this plugin is not."""

    def look() -> Look:
        from importlib.metadata import PackageNotFoundError, version

        told = {"version": ""}
        try:
            told["version"] = version("pytest-vdb")
            from pytest_vdb.parallel import on_node

            return {**told, "code": on_node.code(), **on_node.here(device, count)}
        except (PackageNotFoundError, ImportError, AttributeError) as error:
            return {**told, "error": str(error)}

    return look


def check_version(name: str, look: Look) -> None:
    ours = package("pytest-vdb")
    if look["version"] == ours and look.get("code") == code():
        return
    if not look["version"]:
        wrong = f"no pytest-vdb ({look['error']})"
    elif look["version"] != ours:
        wrong = f"pytest-vdb {look['version']}"
    else:
        wrong = f"pytest-vdb {ours} with other files"
    raise BadSetting(
        f"--vdb-cluster: node {name} has {wrong}, and this process pytest-vdb {ours}: install "
        "the same version on every node (pip install pytest-vdb[ray])"
    )
