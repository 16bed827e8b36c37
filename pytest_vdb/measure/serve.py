"""``--vdb-serve "CMD {port}"``: a video server that lives as long as a block, and no longer.

The command runs below a small process of ours, which leads the process group and ends it when this
process is gone: a foreign server knows nothing of that.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Self

from pytest_vdb.errors import BadSetting, GenerationTimeout, InfraError, SourceError
from pytest_vdb.measure.child import LEASE_SECONDS
from pytest_vdb.measure.group import Group, check_devices, die_with_parent, log_tail
from pytest_vdb.models.endpoint import EndpointSource
from pytest_vdb.models.sources import SERVE, Output
from pytest_vdb.models.video_api import Address, Lost, VideoApi
from pytest_vdb.parallel.lease import Lease
from pytest_vdb.records import Json, ModelSpec, Prompt
from pytest_vdb.units import plain

PORT = "{port}"
STARTUP = 1800.0  # seconds: a model of 14 billion parameters loads for minutes
LOOK = 0.1  # seconds between two looks whether it is ready


class Server:
    """``with Server("vllm serve MODEL --omni --port {port}", log) as server``: ready inside.

    The command is split as a shell would, but no shell runs it. It gets a free port in place of
    ``{port}`` and ``devices`` leased GPUs (0: it sees none; None: those that this process sees,
    such as one that has a lease already); its output goes to ``log``. ``url``
    is where it listens, ``load`` the seconds from its start until it was ready: it answered
    ``GET /health`` with anything but 5xx. ``startup`` limits those. Nothing is started again.

    After the block every process of the group is killed, also when this process dies, unless the
    server left the group on purpose.

    Raises BadSetting (a command that cannot be), SourceError (it ended before it was ready),
    GenerationTimeout (it was not ready in time), InfraError (no device; or one is still in use
    afterwards).
    """

    def __init__(
        self,
        command: str,
        log: Path,
        devices: int | None = 0,
        startup: float = STARTUP,
        wait: float | None = LEASE_SECONDS,
    ) -> None:
        self.command = read_command(command)
        self.log = log
        self.startup = startup
        self.url = ""
        self.load = 0.0
        self._lease = Lease(devices or 0, wait=wait)
        self._inherits = devices is None
        self._held = ExitStack()

    def __enter__(self) -> Self:
        if not hasattr(os, "waitid"):
            raise BadSetting("--vdb-serve needs Linux; start the server and name its URL instead")
        with ExitStack() as held:
            held.enter_context(self._lease)
            port = self._lease.ports(1)[0]
            words = [word.replace(PORT, str(port)) for word in self.command]
            ours = [sys.executable, "-m", __name__, json.dumps(words)]
            env = {} if self._inherits else self._lease.env
            self._group = Group(ours, env, self.log)
            held.callback(check_devices, self._lease, self._group)
            started = time.perf_counter()
            held.enter_context(self._group)
            self.url = f"http://127.0.0.1:{port}"
            self._wait(started)
            self.load = time.perf_counter() - started
            self._held = held.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._held.close()

    @property
    def alive(self) -> bool:
        return not self._group.has_ended()

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Say the server's last words where the block fails because the server has ended."""
        try:
            yield
        except InfraError as exc:
            self._group.wait(1.0)  # its last answer may be a moment older than its end
            if self.alive:
                raise
            raise InfraError(f"{exc}; it has ended, {log_tail(self.log)}") from exc

    def _wait(self, started: float) -> None:
        """Until it answers; what it must not do before that is an error."""
        api = VideoApi(Address.of(self.url), timeout=5.0)
        while True:
            with suppress(Lost):
                if api.exchange("GET", "/health").status < 500 and self.alive:
                    return
            if not self.alive:
                raise SourceError(f"{self._name} ended before it was ready; {log_tail(self.log)}")
            if time.perf_counter() - started > self.startup:
                raise GenerationTimeout(
                    f"{self._name} was not ready within {self.startup:g} s; raise --vdb-timeout, "
                    f"or correct the command; {log_tail(self.log)}"
                )
            time.sleep(LOOK)

    @property
    def _name(self) -> str:
        return f"the server (--vdb-serve {plain(shlex.join(self.command))!r})"


def read_command(command: str) -> list[str]:
    """The words of a ``--vdb-serve`` command. Raises BadSetting; nothing is run."""
    try:
        words = shlex.split(command)
    except ValueError as exc:
        raise BadSetting(f"--vdb-serve {plain(command)!r}: {exc}") from None
    if not any(PORT in word for word in words):
        raise BadSetting(
            f"--vdb-serve {plain(command)!r} does not say where the port goes: write {PORT} in "
            "its place, as in 'vllm serve MODEL --omni --port {port}'"
        )
    if shutil.which(words[0]) is None:
        raise BadSetting(
            f"--vdb-serve: there is no program {words[0]!r}; install it, or give its path (the "
            "command runs without a shell)"
        )
    return words


class ServedSource:
    """The video API of a server that is started for it and ended by ``close``.

    Of ``spec``, ``location`` is ``serve:`` and the command. The other arguments are `Server`'s,
    and so is what is raised. ``server`` and ``endpoint`` are the two parts.
    """

    def __init__(
        self,
        spec: ModelSpec,
        log: Path,
        devices: int | None = 0,
        startup: float = STARTUP,
    ) -> None:
        self.spec = spec
        with ExitStack() as held:
            command = spec.location.removeprefix(SERVE)
            self.server = held.enter_context(Server(command, log, devices, startup))
            with self.server.watching():
                started = replace(spec, location=self.server.url)
                self.endpoint = EndpointSource(started, started=True)
            held.callback(self.endpoint.close)
            self._held = held.pop_all()

    @property
    def provides(self) -> frozenset[str]:
        return self.endpoint.provides

    @property
    def nbytes(self) -> int:
        return 0

    @property
    def resolution(self) -> float:
        return self.endpoint.resolution

    @property
    def retried(self) -> list[str]:
        return self.endpoint.retried

    def generate(self, prompt: Prompt, seed: int, call: Mapping[str, Json]) -> Output:
        """`EndpointSource.generate`; an InfraError says the last words of a server that ended."""
        with self.server.watching():
            return self.endpoint.generate(prompt, seed, call)

    def generate_many(
        self,
        requests: Sequence[tuple[Prompt, int]],
        call: Mapping[str, Json],
        concurrency: int,
        heard: Callable[[], object] = lambda: None,
    ) -> tuple[list[Output | BaseException], float]:
        """`EndpointSource.generate_many`, with the last words in every InfraError."""
        outputs, wall = self.endpoint.generate_many(requests, call, concurrency, heard)
        return [self._explained(output) for output in outputs], wall

    def close(self) -> None:
        """End the server and everything that it started."""
        self._held.close()

    def _explained(self, output: Output | BaseException) -> Output | BaseException:
        if not isinstance(output, InfraError):
            return output
        try:
            with self.server.watching():
                raise output
        except InfraError as exc:
            return exc


# ---------------------------------------------------------------------- in the leader of the group


def main(argv: list[str]) -> int:
    """``python -m pytest_vdb.measure.serve WORDS EVENTS ALIVE``: run the command, outlive nobody.

    EVENTS and ALIVE are inherited pipes; nothing is said on the first. The status is the
    command's, or 128 and the signal that ended it.
    """
    words, alive = json.loads(argv[0]), int(argv[2])
    for pipe in (int(argv[1]), alive):
        os.set_inheritable(pipe, False)
    threading.Thread(target=die_with_parent, args=(alive,), daemon=True).start()
    code = subprocess.call(words)
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
