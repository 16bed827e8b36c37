"""A Ray cluster: reached, looked at, and left as it was.

Ray is imported where it is used; nothing heavy is imported here.
"""

from __future__ import annotations

import logging
import os
import secrets
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pytest_vdb.environment import cpu_count
from pytest_vdb.errors import BadSetting, InfraError, VdbError
from pytest_vdb.parallel.capacity import threads
from pytest_vdb.parallel.ledger import Need, Node, spread
from pytest_vdb.parallel.on_node import Look, check_version, looking
from pytest_vdb.records import Environment, ModelSpec

LOCAL = "local"
INSTALL = "pip install pytest-vdb[ray]"

REACH = 5.0
"""Seconds for a cluster's port to answer."""
LOOK = 60.0
"""Seconds for every node to say what it is: a worker has to start there."""
CLIENT = {
    "RAY_CLIENT_INITIAL_CONNECTION_TIMEOUT_S": "5",
    "RAY_CLIENT_MAX_CONNECTION_TIMEOUT_S": "5",
}
"""How long Ray's own client waits for each of its three attempts."""

ALONE = {"RAY_ENABLE_AUTO_CONNECT": "0"}
"""No other Ray is started here where the cluster went away."""

SOCKET = 40
"""Characters of a folder's path from which on Ray's sockets below it would be too long."""

LEFT_OUT = (".git", ".venv", "venv", ".tox", "__pycache__", "*.pyc", ".pytest_cache", "media")
"""What does not travel to a cluster with the repository under test."""


def check_installed() -> None:
    """Raises BadSetting where Ray is not installed; imports nothing."""
    if find_spec("ray") is None:
        raise BadSetting(f"--vdb-cluster needs Ray, which is not installed: {INSTALL}")


class Cluster:
    """The cluster at ``address``: ``local``, ``auto``, ``ray://HOST:PORT`` or ``HOST:PORT``.

    ``local`` starts Ray on this machine and ends it in `close`; its files lie below ``scratch``.
    The others are joined, and ``root`` (the repository under test) is sent there. Where this
    process is connected to Ray already, ``local`` and ``auto`` mean that, and it stays connected.
    ``most`` limits the number of actors.
    """

    def __init__(self, address: str, root: Path, scratch: Path, most: int | None = None) -> None:
        self.address = address
        self.root = root
        self.scratch = scratch
        self.most = most
        self._ours = False
        self._looked: dict[tuple[str, int], dict[str, Look]] = {}

    @property
    def local(self) -> bool:
        """Whether the actors run on this machine, beside this process."""
        return self.address == LOCAL

    @property
    def label(self) -> str:
        return "a local Ray cluster" if self.local else f"the Ray cluster {self.address}"

    @cached_property
    def ray(self) -> Any:
        """The module, connected. Raises BadSetting (no Ray, another version), InfraError."""
        check_installed()
        try:
            self._reach()
        except ConnectionError as error:
            raise InfraError(f"{self.label} does not answer: {error}") from None
        _default({**ALONE, **(_private() if self.local else CLIENT)})
        import ray

        if ray.is_initialized():
            if self.address not in (LOCAL, "auto"):
                raise BadSetting(
                    f"--vdb-cluster={self.address}: this process is connected to a Ray cluster "
                    "already; say --vdb-cluster=auto to use that one"
                )
            return ray
        try:
            ray.init(**self._how())
        except Exception as error:
            raise self._refusal(error) from None
        self._ours = True
        return ray

    @contextmanager
    def joined(self) -> Iterator[Any]:
        """The module, for a block. Raises InfraError where the cluster goes away within it.

        It is left then: calls would wait for it, and Ray ends a process whose head is gone for a
        minute.
        """
        ray = self.ray
        try:
            if not ray.is_initialized():
                raise ConnectionError("this process is not connected to it any more")
            self._reach()
            yield ray
        except Exception as error:
            from ray.exceptions import RayError

            if _gone(error):
                self.close()
                raise InfraError(f"{self.label} went away: {_first(error)}") from None
            if isinstance(error, RayError):
                raise InfraError(f"{self.label} cannot work: {_first(error)}") from None
            raise

    def close(self) -> None:
        """Leave the cluster; one that was started here ends."""
        if self._ours:
            self._ours = False
            self.ray.shutdown()

    # ------------------------------------------------------------------ what there is

    def device(self) -> str:
        """``cuda`` where a node has GPUs, else ``cpu``."""
        return "cuda" if any(node["Resources"].get("GPU") for node in self._alive()) else "cpu"

    def places(self, spec: ModelSpec, device: str) -> list[str]:
        """Ids of the nodes that hold ``spec``, one an actor.

        Raises InfraError where no node has room, or they cannot be asked; BadSetting where they
        run another version of this plugin, or are not of one kind.
        """
        need = needed(spec, device)
        places = spread(self._nodes(spec, device), need, self.most)
        if not places:
            has = "; ".join(_told(node) for node in self._alive()) or "no node is alive"
            raise InfraError(f"{spec.name} needs {need} on one node of {self.label}: {has}")
        return places

    def alive(self) -> list[str]:
        """Ids of the nodes that are up now."""
        return [node["NodeID"] for node in self._alive()]

    def environments(
        self, spec: ModelSpec, device: str, pool: str
    ) -> tuple[Environment, Environment]:
        """(quality, performance) environments of the nodes that hold ``spec``.

        The number of actors is part of performance's: what is timed beside others is compared with
        what was timed beside as many.
        """
        places = self.places(spec, device)
        looked = self._look(device, spec.devices)
        quality, performance = (
            self._alike({id: looked[id][which] for id in places})
            for which in ("quality", "performance")
        )
        identity = {**performance.identity, **({"pool": pool} if pool else {})}
        identity["cluster"] = f"{len(places)}actors"
        return quality, Environment(identity, performance.facts)

    def paths(self, path: Sequence[str]) -> tuple[str, ...]:
        """``sys.path`` for an actor: as it is on this machine; elsewhere what travelled there,
        relative to where it lies."""
        if self.local:
            return tuple(path)
        below = [Path(one) for one in path if one and Path(one).is_relative_to(self.root)]
        return tuple(
            str(one.relative_to(self.root)) for one in below if "site-packages" not in one.parts
        )

    # ------------------------------------------------------------------ within

    def _reach(self) -> None:
        """Raises ConnectionError in seconds where nobody listens."""
        if self.address in (LOCAL, "auto"):
            return  # Ray starts it, or looks in its own files
        host, _, port = self.address.removeprefix("ray://").rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), REACH).close()
        except OSError as error:
            raise ConnectionError(f"{error}; see that it is up and reached from here") from None

    def _refusal(self, error: Exception) -> VdbError:
        """Why Ray does not connect, in its first words."""
        if self.local:
            return InfraError(f"{self.label} does not start: {_first(error)}")
        if isinstance(error, OSError):
            return InfraError(
                f"{self.label} does not answer: {_first(error)}; if it was started with a token, "
                "set RAY_AUTH_MODE=token and that RAY_AUTH_TOKEN here, too"
            )
        # another version, a repository too large
        return BadSetting(f"--vdb-cluster={self.address}: {_first(error)}")

    def _how(self) -> dict[str, Any]:
        quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
        if not self.local:
            env = {"working_dir": str(self.root), "excludes": list(LEFT_OUT)}
            return {"address": self.address, "runtime_env": env, **quiet}
        folder = self.scratch / "ray"
        place = {"_temp_dir": str(folder)} if len(str(folder)) < SOCKET else {}
        return {
            "address": LOCAL,
            "num_cpus": cpu_count(),
            "include_dashboard": False,
            **place,
            **quiet,
        }

    def _alive(self) -> list[dict[str, Any]]:
        with self.joined() as ray:
            return [node for node in ray.nodes() if node["Alive"]]

    def _nodes(self, spec: ModelSpec, device: str) -> list[Node]:
        looked = self._look(device, spec.devices)
        nodes = []
        for node in self._alive():
            if node["NodeID"] not in looked:
                continue  # it came after we looked, and nobody knows what it is
            has = node["Resources"]
            nodes.append(
                Node(
                    node["NodeID"],
                    node["NodeManagerHostname"],
                    int(has.get("CPU", 0)),
                    int(has.get("GPU", 0)),
                    int(has.get("memory", 0)),
                    looked[node["NodeID"]]["gpu_memory"],
                )
            )
        return nodes

    def _look(self, device: str, count: int) -> dict[str, Look]:
        """What each node says of itself, by id."""
        if (device, count) not in self._looked:
            with self.joined() as ray:
                self._looked[device, count] = self._asked(ray, device, count)
        return self._looked[device, count]

    def _asked(self, ray: Any, device: str, count: int) -> dict[str, Look]:
        from ray.exceptions import GetTimeoutError
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        names = {
            node["NodeID"]: node["NodeManagerHostname"]
            for node in self._alive()
            if device == "cpu" or node["Resources"].get("GPU")
        }
        asked = {}
        for id in names:
            there = NodeAffinitySchedulingStrategy(id, soft=False)
            task = ray.remote(looking(device, count))
            asked[id] = task.options(num_cpus=0, scheduling_strategy=there).remote()
        try:
            said = dict(zip(asked, ray.get([*asked.values()], timeout=LOOK), strict=True))
        except GetTimeoutError:
            raise InfraError(
                f"the nodes of {self.label} did not answer within {LOOK:g} s"
            ) from None
        if not self.local:  # which has this process's own files
            for id, look in said.items():
                check_version(names[id], look)
        return said

    def _alike(self, told: dict[str, Any]) -> Environment:
        """The one environment of these nodes. Raises BadSetting."""
        names = {node["NodeID"]: node["NodeManagerHostname"] for node in self._alive()}
        (first, one), *others = told.items()
        for id, other in others:
            ours, theirs = one["identity"], other["identity"]
            differ = [n for n in {**ours, **theirs} if ours.get(n) != theirs.get(n)]
            if differ:
                name = differ[0]
                raise BadSetting(
                    f"the nodes of {self.label} are not of one kind: {name} is {ours.get(name)} on "
                    f"{names.get(first)} and {theirs.get(name)} on {names.get(id)}; a measurement "
                    "belongs to one kind of machine: use a cluster of one, or --vdb-actors"
                )
        return Environment(one["identity"], one["facts"])


def needed(spec: ModelSpec, device: str) -> Need:
    """What one actor with ``spec`` takes of a node.

    On a CPU as many cores as it has threads (all of this machine's, where nobody says), so that no
    two actors compute on one core.
    """
    if device != "cpu":
        return Need(1, gpus=spec.devices, gpu_memory=spec.memory or 0)
    return Need(max(threads(spec) or cpu_count(), spec.devices), memory=spec.memory or 0)


def _told(node: dict[str, Any]) -> str:
    has = node["Resources"]
    parts = [f"{has.get('CPU', 0):g} cores", f"{has.get('GPU', 0):g} GPUs"]
    parts.append(f"{has.get('memory', 0) / 2**30:.1f} GiB of memory")
    return f"{node['NodeManagerHostname']} has {', '.join(parts)}"


def _first(error: BaseException) -> str:
    """The first lines of what Ray says, in one."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:4]) or type(error).__name__


def _gone(error: Exception) -> bool:
    """Whether a call failed for want of a cluster.

    Ray's client raises errors of gRPC and bare ones for that, and Ray's core an OSError that is
    none of the system's.
    """
    from ray.exceptions import RaySystemError

    kind = type(error)
    if kind in (Exception, OSError):
        return getattr(error, "errno", None) is None
    return isinstance(error, ConnectionError | RaySystemError) or kind.__module__[:4] == "grpc"


def _private() -> dict[str, str]:
    """A local cluster sends nothing away, and lets in this process's own workers alone.

    Those it would run at niceness 15, where what is timed waits for whatever else computes here.
    Where Ray was imported before, this process would not send a token; Ray has one of its own then.
    """
    wanted = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"}
    if "RAY_AUTH_MODE" not in os.environ and "ray" not in sys.modules:
        wanted |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    return wanted


def _default(wanted: dict[str, str]) -> None:
    """Ray reads these while it is imported and starts; what somebody set holds."""
    for name, value in wanted.items():
        os.environ.setdefault(name, value)
