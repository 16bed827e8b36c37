"""What one pytest process keeps for the session: settings, registries, benches, clocks.

Built when the first test needs it; nothing heavy is imported here.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_vdb import prompts
from pytest_vdb.baseline.store import Store
from pytest_vdb.environment import (
    cpu_count,
    performance_environment,
    quality_environment,
    resolve_device,
)
from pytest_vdb.errors import BadSetting, nearest
from pytest_vdb.models.registry import Registry, gather
from pytest_vdb.options import Layers, Settings
from pytest_vdb.records import Environment, Kind, ModelSpec, Workload
from pytest_vdb.units import plain

if TYPE_CHECKING:
    from pytest_vdb.bench import Bench
    from pytest_vdb.measure.runner import Runner
    from pytest_vdb.metrics.registry import Metrics

PHASES = ("load", "generate", "metrics", "plugin")


class VdbSession:
    """State of one process: the controller, or one xdist worker."""

    def __init__(self, config: pytest.Config, layers: Layers) -> None:
        self.config = config
        self.layers = layers
        self.settings = layers.session()
        self.seconds = dict.fromkeys(PHASES, 0.0)
        self._benches: dict[str, Bench] = {}
        self._runners: dict[str, Runner] = {}
        self._loaded: set[str] = set()

    # ------------------------------------------------------------------ places

    def place(self, path: str) -> Path:
        """A folder from the settings; relative ones start at pytest's root."""
        return self.config.rootpath / path

    @cached_property
    def scratch(self) -> Path:
        """This run's folder: the controller makes it, workers share it."""
        given: str | None = getattr(self.config, "workerinput", {}).get("vdb_scratch")
        return Path(given or tempfile.mkdtemp(prefix="pytest-vdb-"))

    @cached_property
    def store(self) -> Store:
        root = self.place(self.settings.baselines)
        media = self.place(self.settings.store) if self.settings.store else root / "media"
        return Store(root, media)

    # ------------------------------------------------------------------ what is under test

    @cached_property
    def registry(self) -> Registry:
        return Registry(gather(self.config.hook.pytest_vdb_models()))

    @cached_property
    def metrics(self) -> Metrics:
        from pytest_vdb.metrics import registry

        return registry.Metrics(registry.gather(self.config.hook.pytest_vdb_metrics()))

    @cached_property
    def models(self) -> tuple[ModelSpec, ...]:
        """The models of this run, in the order they were named."""
        specs: list[ModelSpec] = []
        if self.settings.videos:
            from pytest_vdb.models import recorded

            specs += recorded.specs(self.place(self.settings.videos))
        if not self.settings.videos or "models" in {*self.layers.cli, *self.layers.ini}:
            found = [self.registry.find(name) for name in self.settings.models]
            specs += [replace(s, dtype=self.settings.dtype or s.dtype) for s in found]
        root = str(self.config.rootpath)
        if any(spec.source == "factory" for spec in specs) and root not in sys.path:
            sys.path.insert(0, root)  # the repository under test imports from its own checkout
        twice = {s.slug for s in specs if [o.slug for o in specs].count(s.slug) > 1}
        if twice:
            raise BadSetting(f"model {', '.join(sorted(twice))} is asked for twice")
        return tuple(specs)

    def workload(self, spec: ModelSpec, settings: Settings) -> Workload:
        """What ``spec`` is asked for under ``settings``; a recorded folder brings its own."""
        if spec.source == "recorded":
            from pytest_vdb.models import recorded

            return recorded.workload(spec)
        return Workload(
            prompts=prompts.load(settings.prompts, self.config.rootpath),
            seeds=settings.seeds,
            call={**spec.call, **settings.call},
            dtype=spec.dtype,
            options=spec.options,
        )

    def bench(self, spec: ModelSpec, settings: Settings) -> Bench:
        """The one bench of this model, workload and runner in this session."""
        from pytest_vdb.bench import Bench

        workload = self.workload(spec, settings)
        key = f"{spec.slug}/{workload.hash}/{settings.runner}/{settings.timeout}"
        if key not in self._benches:
            self._benches[key] = Bench(self, spec, workload, settings)
        return self._benches[key]

    # ------------------------------------------------------------------ where it runs

    @cached_property
    def device(self) -> str:
        return resolve_device(self.settings.device)

    def runner(self, kind: str) -> Runner:
        """``auto`` is the child process on an accelerator and in-process on a CPU."""
        if kind == "auto":
            kind = "inprocess" if self.device == "cpu" else "child"
        if kind not in self._runners:
            if kind == "child":
                from pytest_vdb.measure.child import ChildProcess

                self._runners[kind] = ChildProcess()
            else:
                from pytest_vdb.measure.inprocess import InProcess

                self._runners[kind] = InProcess()
        return self._runners[kind]

    def first_load(self, spec: ModelSpec, runner: Runner) -> bool:
        """Whether ``spec`` is loaded for the first time; a child process loads anew each time."""
        again = runner.name == "inprocess" and spec.slug in self._loaded
        self._loaded.add(spec.slug)
        return not again

    @property
    def workers(self) -> int:
        """Concurrent pytest processes of this run."""
        return int(getattr(self.config, "workerinput", {}).get("workercount", 1))

    def crowd(self, spec: ModelSpec, settings: Settings) -> int:
        """Workers that must share a device at a time, or 0 where each has its own."""
        if self.workers == 1:
            return 0
        from pytest_vdb.parallel.lease import visible_devices

        # In-process runners all use the first GPU; children lease one each.
        in_process = settings.runner == "inprocess"
        slots = 1 if in_process else len(visible_devices())
        if self.device == "cpu":
            slots = max(1, cpu_count() // int(spec.options.get("num_threads") or cpu_count()))
        return self.workers if self.workers > slots else 0

    def environments(self, spec: ModelSpec, settings: Settings) -> tuple[Environment, Environment]:
        """(quality, performance) environments of ``spec`` in this run."""
        crowd = self.crowd(spec, settings) if settings.crowded else 0
        return (
            quality_environment(self.device),
            performance_environment(self.device, self.settings.pool, crowd),
        )

    def headline(self) -> str:
        """What runs, in one line."""
        s = self.settings
        names = ", ".join(spec.name for spec in self.models)
        doing = f"updating ({s.update_mode})" if s.update else f"gate {s.gate}, missing {s.missing}"
        where = os.path.relpath(self.store.root, self.config.invocation_params.dir)
        return plain(f"vdb: {names} on {self.device}; baselines {where} ({doing})")

    def validate(self) -> None:
        """Raise for flags and ini options that cannot mean anything, before anything runs."""
        assert self.models
        self.check(self.settings)
        if "update_mode" in self.layers.cli and not self.settings.update:
            raise BadSetting("--vdb-update-mode says how to update; add --vdb-update")
        if self.settings.json and (self.config.invocation_params.dir / self.settings.json).is_dir():
            raise BadSetting(f"--vdb-json: {self.settings.json} is a folder; name a file in it")

    def check(self, settings: Settings) -> None:
        """Raise for a test's settings that cannot mean anything; nothing heavy is imported."""
        prompts.load(settings.prompts, self.config.rootpath)
        try:
            json.dumps(settings.call, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise BadSetting(
                f"a call argument (--vdb-set, or the marker's) must be plain finite JSON: {error}"
            ) from None
        if settings.tolerance:
            from pytest_vdb.bench import PERFORMANCE_NAMES

            kinds = {spec.name: spec.kind for spec in self.metrics}
            known = {*PERFORMANCE_NAMES, "memory", *kinds}
            for name in settings.tolerance:
                if name not in known:
                    raise BadSetting(f"a tolerance for {name!r}: {nearest(name, known)}")
                if kinds.get(name) is Kind.DISTANCE:
                    raise BadSetting(
                        f"a tolerance for {name!r}: a distance to the baseline's video convicts "
                        f"nobody; assert a floor instead, such as vdb.score({name!r}).min > 0.9"
                    )

    # ------------------------------------------------------------------ clocks

    @contextmanager
    def charged(self, phase: str) -> Iterator[None]:
        """Charge the block's seconds to ``phase`` and to no other around it."""
        before, start = sum(self.seconds.values()), time.perf_counter()
        try:
            yield
        finally:
            inner = sum(self.seconds.values()) - before
            self.seconds[phase] += time.perf_counter() - start - inner

    def take_seconds(self) -> dict[str, float]:
        """Seconds by phase since the last call: what a test's report carries."""
        taken, self.seconds = self.seconds, dict.fromkeys(PHASES, 0.0)
        return taken

    def close(self) -> None:
        for runner in self._runners.values():
            runner.close()
