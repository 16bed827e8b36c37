"""What one pytest process keeps for the session: settings, registries, benches, clocks.

Built when the first test needs it; nothing heavy is imported here.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_vdb import hang, prompts
from pytest_vdb.baseline.store import Store
from pytest_vdb.environment import performance_environment, quality_environment, resolve_device
from pytest_vdb.errors import BadSetting
from pytest_vdb.models import load_options
from pytest_vdb.models.registry import Registry, gather
from pytest_vdb.models.sources import SERVE
from pytest_vdb.options import Layers, Settings
from pytest_vdb.records import FRAME_COUNTS, Baseline, Environment, ModelSpec, Run, Workload
from pytest_vdb.reuse import Sharing
from pytest_vdb.standards import Standards
from pytest_vdb.units import plain

if TYPE_CHECKING:
    from pytest_vdb.bench import Bench
    from pytest_vdb.beside import Beside
    from pytest_vdb.clustered import Clustered
    from pytest_vdb.measure.runner import Runner
    from pytest_vdb.metrics.engine import Extractor
    from pytest_vdb.metrics.registry import Metrics, MetricSpec

PHASES = ("load", "generate", "metrics", "beside", "plugin")


class VdbSession:
    """State of one process: the controller, or one xdist worker."""

    def __init__(self, config: pytest.Config, layers: Layers) -> None:
        self.config = config
        self.layers = layers
        self.settings = layers.session()
        self.seconds = dict.fromkeys(PHASES, 0.0)
        self.gpu_seconds = 0.0
        self._benches: dict[str, Bench] = {}
        self._runners: dict[str, Runner] = {}
        self.sharing = Sharing(self)

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
    def standards(self) -> Standards:
        """What this run is held to."""
        return Standards(self)

    @property
    def store(self) -> Store:
        """Raises BadSetting, NoBase, Unreachable."""
        return self.standards.store

    def medium(self, sha256: str) -> Path:
        """A reference medium: written in this run, as the base side's are, or the store's."""
        written = sorted((self.scratch / "blobs").glob(f"{sha256}.*"))
        return written[0] if written else self.store.blob(sha256)

    # ------------------------------------------------------------------ what is under test

    @cached_property
    def registry(self) -> Registry:
        return Registry(gather(self.config.hook.pytest_vdb_models()))

    @cached_property
    def metrics(self) -> Metrics:
        from pytest_vdb.metrics import registry

        return registry.Metrics(registry.gather(self.config.hook.pytest_vdb_metrics()))

    @cached_property
    def extractor(self) -> Extractor:
        """Computes what metrics are made of, once a video for the whole session."""
        from pytest_vdb.metrics.engine import Extractor

        s = self.settings
        device, cache = s.metric_device, s.metric_cache
        if self.cluster is not None and s.scores_on_cluster:
            # All videos of a workload are computed before the first one is scored.
            device, cache = self.cluster.metric_device, cache or str(self.scratch / "rows")
        return Extractor(
            weights=None if s.metric_weights is None else self.place(s.metric_weights),
            device=resolve_device(device),
            dtype=s.metric_dtype,
            batch=s.metric_batch,
            cache=None if cache is None else self.place(cache),
        )

    def computed(self, spec: MetricSpec, bench: Bench, run: Run, baseline: Baseline | None) -> str:
        """Where ``spec`` computes; what the cluster does of it, for all videos, is done then."""
        where = self.extractor.label if spec.networks else "cpu"
        if self.cluster is None or not self.settings.scores_on_cluster or not spec.features:
            return where
        return where + self.cluster.compute(bench, spec, run, baseline)

    def clear_device(self) -> None:
        """Before anything is timed: no metric network of ours stays on an accelerator."""
        if "extractor" in self.__dict__:
            self.extractor.release()
        if self.cluster is not None:
            self.cluster.dismiss()

    @cached_property
    def models(self) -> tuple[ModelSpec, ...]:
        """The models of this run, in the order they were named."""
        specs: list[ModelSpec] = []
        if self.settings.videos:
            from pytest_vdb.models import recorded

            specs += recorded.specs(self.place(self.settings.videos))
        if not self.settings.videos or "models" in {*self.layers.cli, *self.layers.ini}:
            found = [self.registry.find(name) for name in self.settings.models]
            specs += [self._as_asked(spec) for spec in found]
        root = str(self.config.rootpath)
        if any(spec.source == "factory" for spec in specs) and root not in sys.path:
            sys.path.insert(0, root)  # the repository under test imports from its own checkout
        twice = {s.slug for s in specs if [o.slug for o in specs].count(s.slug) > 1}
        if twice:
            raise BadSetting(f"model {', '.join(sorted(twice))} is asked for twice")
        return tuple(specs)

    def _as_asked(self, spec: ModelSpec) -> ModelSpec:
        """``spec`` with the dtype, weights and server of the command line."""
        s = self.settings
        weights = s.weights or spec.weights
        if weights == "random" and spec.source not in ("diffusers", "factory"):
            raise BadSetting(f"--vdb-weights=random: {spec.name} comes from {spec.location}")
        if s.serve is not None:
            if weights == "random":
                raise BadSetting("--vdb-weights=random: a server loads its own weights")
            # How the server loads its model is said by its command, not by the catalog.
            location = f"{SERVE}{s.serve}"
            spec = replace(spec, source="endpoint", location=location, options={})
        return replace(spec, dtype=s.dtype or spec.dtype, weights=weights)

    def loaded_as(self, spec: ModelSpec, settings: Settings) -> ModelSpec:
        """``spec`` with the load options of ``settings`` over its own. Raises BadSetting."""
        if spec.source == "recorded":
            return spec  # nothing is loaded
        options = {**spec.options, **load_options.split(settings.call)[1]}
        return replace(spec, options=load_options.check_all(options, spec.source, spec.name))

    def workload(self, spec: ModelSpec, settings: Settings) -> Workload:
        """What ``spec`` is asked for under ``settings``; a recorded folder brings its own."""
        if spec.source == "recorded":
            from pytest_vdb.models import recorded

            return recorded.workload(spec)
        return Workload(
            prompts=prompts.load(
                settings.prompts or spec.prompts or prompts.DEFAULT, self.config.rootpath
            ),
            seeds=settings.seeds,
            call=_call(spec, load_options.split(settings.call)[0]),
            dtype=spec.dtype,
            options=_options(spec),
        )

    def bench(self, spec: ModelSpec, settings: Settings) -> Bench:
        """The one bench of this model, workload and runner in this session."""
        from pytest_vdb.bench import Bench

        spec = self.loaded_as(spec, settings)
        workload = self.workload(spec, settings)
        key = f"{spec.slug}/{workload.hash}/{settings.runner}/{settings.timeout}"
        if key not in self._benches:
            bench = self._benches[key] = Bench(self, spec, workload, settings)
            bench.shared = self.sharing.of(bench)
        return self._benches[key]

    @cached_property
    def beside(self) -> Beside | None:
        """Comparisons with the base side, where one is named."""
        if self.settings.base is None:
            return None
        from pytest_vdb.beside import Beside

        return Beside(self)

    def say(self, line: str) -> None:
        """One line on the terminal now, where this process has one."""
        reporter = self.config.pluginmanager.getplugin("terminalreporter")
        capture = self.config.pluginmanager.getplugin("capturemanager")
        if reporter is not None and capture is not None:
            with capture.global_and_fixture_disabled():
                reporter.ensure_newline()
                reporter.write_line(plain(f"vdb: {line}"))

    @cached_property
    def grid(self) -> float | None:
        """Grams of CO2 a kWh of ``--vdb-grid``, or None. Raises BadSetting."""
        from pytest_vdb.measure.carbon import intensity

        return None if self.settings.grid is None else intensity(self.settings.grid)

    # ------------------------------------------------------------------ where it runs

    @cached_property
    def cluster(self) -> Clustered | None:
        """Where models are loaded, if not here."""
        if self.settings.cluster is None:
            return None
        from pytest_vdb.clustered import Clustered

        return Clustered(self, self.settings.cluster)

    @cached_property
    def device(self) -> str:
        return self.cluster.device if self.cluster else resolve_device(self.settings.device)

    def runner(self, kind: str, spec: ModelSpec) -> Runner:
        """The one runner of ``kind`` in this session, or the cluster's.

        ``auto`` is the child process on an accelerator and for a model of several devices,
        and in-process on a CPU and for what loads no model here.
        """
        if self.cluster is not None and self.cluster.takes(spec):
            return self._runners.setdefault("cluster", self.cluster.runner)
        if kind == "auto":
            away = spec.source in ("endpoint", "recorded")
            here = away or (self.device == "cpu" and spec.devices == 1)
            kind = "inprocess" if here else "child"
        if kind == "inprocess" and spec.devices > 1 and spec.source != "endpoint":
            raise BadSetting(
                f"{spec.name} runs on {spec.devices} devices, which a child process leases: "
                "leave --vdb-runner out, or set it to child"
            )
        if kind not in self._runners:
            if kind == "child":
                from pytest_vdb.measure.child import ChildProcess

                # Where workers share devices, nobody may sit on one between two tests.
                keep = not any(self.crowd(one, self.settings) for one in self.models)
                self._runners[kind] = ChildProcess(keep=keep, preflight=not self.settings.crowded)
            else:
                from pytest_vdb.measure.inprocess import InProcess

                self._runners[kind] = InProcess(self.settings.cache_budget, hang.log(self.config))
        return self._runners[kind]

    def device_of(self, spec: ModelSpec) -> str:
        """Where ``spec`` runs: nothing is known of the machine behind a URL but its pool."""
        remote = spec.source == "endpoint" and not spec.location.startswith(SERVE)
        return "endpoint" if remote else self.device

    def release(self) -> None:
        """Give back the devices that no test to come needs."""
        for runner in self._runners.values():
            runner.release()
        if self.cluster is not None:
            self.cluster.dismiss()

    def make_room(self) -> None:
        """Leave the devices to somebody else's process: nothing idle of ours stays on them."""
        self.release()
        if self.device != "cpu":
            self._shrink()

    def leave_pipeline(self) -> None:
        """The tests to come are of another pipeline.

        Beside other workers this one goes: the plan lets pipelines start that fit the machine
        together, and counts one a worker (`schedule`).
        """
        self.release()
        if self.workers > 1:
            self._shrink()

    def _shrink(self) -> None:
        for runner in self._runners.values():
            runner.shrink()

    @property
    def workers(self) -> int:
        """Concurrent pytest processes of this run."""
        own = len(getattr(self.config.option, "tx", None) or ())  # the controller's
        return int(getattr(self.config, "workerinput", {}).get("workercount", own or 1))

    def crowd(self, spec: ModelSpec, settings: Settings) -> int:
        """Workers that must share a device at a time, or 0 where each has its own."""
        if self.workers == 1:
            return 0
        from pytest_vdb.parallel import capacity

        here = [one for one in self.models if one.source in ("diffusers", "factory")]
        # On a CPU another worker's model takes the cores that it says it takes, or all of them.
        beside = [self.loaded_as(one, settings) for one in here if self.device == "cpu"]
        slots = min(
            capacity.slots(
                one,
                self.device,
                in_process=settings.runner == "inprocess",
                scores=resolve_device(self.settings.metric_device) != "cpu",
                placed=getattr(self.config, "workerinput", {}).get("vdb_placed", False),
                narrow=all(other.devices == 1 for other in self.models),
            )
            for one in (spec, *beside)
        )
        return self.workers if self.workers > slots else 0

    def environments(self, spec: ModelSpec, settings: Settings) -> tuple[Environment, Environment]:
        """(quality, performance) environments of ``spec`` in this run."""
        if self.cluster is not None and self.cluster.takes(spec):
            return self.cluster.environments(spec)
        crowd = self.crowd(spec, settings) if settings.crowded else 0
        device = self.device_of(spec)
        performance = performance_environment(device, self.settings.pool, crowd, spec.devices)
        if spec.source == "endpoint" and device != "endpoint":
            # The same model behind a server is another thing to time.
            performance = replace(performance, identity={**performance.identity, "by": "served"})
        return quality_environment(device, spec.devices), performance

    def headline(self) -> str:
        """What runs, in one line."""
        s = self.settings
        names = ", ".join(spec.name for spec in self.models)
        if s.sweep:
            return plain(f"vdb: {names} on {self.device}; sweeping {', '.join(s.sweep)}: explores")
        doing = f"updating ({s.update_mode})" if s.update else f"gate {s.gate}, missing {s.missing}"
        where = self.standards.label
        on = f"cluster {s.cluster}" if s.cluster else self.device
        return plain(f"vdb: {names} on {on}; baselines {where} ({doing})")

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

    def used(self, spec: ModelSpec, run: Run) -> None:
        """Count what the generations of ``run`` took of GPUs, of each that the model has."""
        if self.device_of(spec).partition(":")[0] == "cuda":
            walls = [sample.wall for sample in run.samples]
            if run.throughput:  # a server's requests overlap
                walls = [len(run.samples) / run.throughput]
            self.gpu_seconds += spec.devices * sum(filter(None, [run.first_call, *walls]))

    def take_gpu_seconds(self) -> float:
        """As `take_seconds`."""
        taken, self.gpu_seconds = self.gpu_seconds, 0.0
        return taken

    def close(self) -> None:
        for runner in self._runners.values():
            runner.close()
        if self.cluster is not None:
            self.cluster.close()


def _call(spec: ModelSpec, asked: dict[str, Any]) -> dict[str, Any]:
    """``asked`` over the model's own arguments; ``num_frames`` by the name that the model has."""
    own = next((name for name in FRAME_COUNTS if name in spec.call), "num_frames")
    if "num_frames" in asked and own != "num_frames":
        asked = {own if name == "num_frames" else name: value for name, value in asked.items()}
    return {**spec.call, **asked}


def _options(spec: ModelSpec) -> dict[str, Any]:
    """What of the load options is part of a workload's identity."""
    options = {k: v for k, v in spec.options.items() if k not in load_options.CLIENT}
    return options | ({"weights": "random"} if spec.weights == "random" else {})
