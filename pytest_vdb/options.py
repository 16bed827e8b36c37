"""Every ``--vdb-*`` flag and ``vdb_*`` ini option, merged into one frozen ``Settings``.

Precedence: command line, then marker, then ini file, then default. Nothing heavy is imported.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import pytest

from pytest_vdb.errors import BadSetting
from pytest_vdb.flags import OPTIONS, Option

if TYPE_CHECKING:
    from pytest_vdb.gate.policy import Consequences


@dataclass(frozen=True)
class Settings:
    """What one test runs under. ``resolve`` gives a test's own, with its markers merged in."""

    models: tuple[str, ...] = ("shapes",)
    videos: str | None = None
    weights: str | None = None
    serve: str | None = None
    cache_budget: int | None = None
    grid: str | None = None
    device: str = "auto"
    dtype: str | None = None
    runner: str = "auto"
    cluster: str | None = None
    actors: int | None = None
    timeout: float | None = None
    pool: str = ""
    crowded: bool = False
    baselines: str = "baselines"
    store: str | None = None
    reference: str = "latent"
    sessions: int = 5
    update: bool = False
    update_mode: str = "missing"
    gate: str = "fail"
    missing: str = "warn"
    inconclusive: str | None = None
    require: bool = False
    guard_m: int = 200
    tolerance: Mapping[str, str] = field(default_factory=dict)
    base: str | None = None
    base_setup: str | None = None
    budget: float | None = None
    ab_processes: int | None = None
    ab_steps: int = 8
    baseline_ref: str | None = None
    accepted: str = "accepted"
    honour_accepted: bool = False
    run_source: str | None = None
    prove: bool = False
    prove_generate: bool = False
    prove_min: float | None = None
    json: str | None = None
    keep: bool = False
    markdown: str | None = None
    report_url: str | None = None
    github: str = "auto"
    html: str | None = None
    csv: str | None = None
    latex: str | None = None
    openmetrics: str | None = None
    benchmark_json: str | None = None
    shard: tuple[int, int] | None = None
    sweep: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    sweep_mode: str = "grid"
    recommend: str | None = None
    durations: str | None = None
    reuse: bool = False
    reuse_folder: str | None = None
    reuse_size: int | None = None
    metric_weights: str | None = None
    metric_device: str = "cpu"
    metric_dtype: str = "float32"
    metric_batch: int = 8
    metric_cache: str | None = None
    # of the workload
    prompts: str | tuple[str, ...] = ""  # the model's own suite
    seeds: tuple[int, ...] = (0,)
    call: Mapping[str, Any] = field(default_factory=dict)
    allow: tuple[str, ...] = ()
    swept: Mapping[str, Any] = field(default_factory=dict)
    """Which point of a sweep this test is (`pytest_vdb.swept`); empty for all others."""
    overruled: tuple[str, ...] = ()
    """What a marker says that does not count, since policy is another commit's."""

    @property
    def explores(self) -> bool:
        """Whether this test is held to no baseline, as a point of a sweep that the run asks for."""
        return bool(self.sweep) and bool(self.swept.get("explores"))

    @classmethod
    def merge(cls, *layers: Mapping[str, Any]) -> Self:
        """Merge layers, weakest first; mappings merge key by key."""
        merged: dict[str, Any] = {}
        for layer in layers:
            for key, value in layer.items():
                merged[key] = {**merged.get(key, {}), **value} if isinstance(value, dict) else value
        return cls(**merged)

    @property
    def scores_on_cluster(self) -> bool:
        """Whether metrics are computed on the cluster that models run on."""
        return self.metric_device == "cluster"

    @property
    def consequences(self) -> Consequences:
        from pytest_vdb.gate.policy import Consequences

        return Consequences(self.gate, self.missing, self.inconclusive, self.require, self.update)


def add_options(parser: pytest.Parser) -> None:
    group = parser.getgroup("vdb", "video-diffusion benchmarks (pytest-vdb)")
    for option in OPTIONS:
        kind: Any = "bool" if option.flag else "linelist" if option.many else "string"
        text = option.help.replace("%%", "%")
        parser.addini(option.dest, text, type=kind, default=None)
        if option.ini_only:
            continue
        how: dict[str, Any] = {"dest": option.dest, "default": None, "help": option.help}
        if option.flag:
            how["action"] = "store_true"
        else:
            how["metavar"] = option.metavar
            how["action"] = "append" if option.many else "store"
        names = [option.name, option.alias] if option.alias else [option.name]
        group.addoption(*(f"--vdb-{name}".replace("_", "-") for name in names), **how)


def read(option: Option, raw: Any, where: str) -> Any:
    """One option's typed value from what argparse or the ini file gave."""
    try:
        if option.flag:
            return bool(raw)
        if raw == "" or raw == [""]:
            raise BadSetting("it is empty; give a value or leave it out")
        if not option.many:
            return option.read(raw)
        values = [option.read(one) for one in raw]
    except BadSetting as error:
        raise BadSetting(f"{where}: {error}") from None
    if values and isinstance(values[0], dict):
        return {key: value for one in values for key, value in one.items()}
    return tuple(values)


@dataclass(frozen=True)
class Layers:
    """The command line's and the ini file's settings, kept apart until markers are known."""

    ini: Mapping[str, Any]
    cli: Mapping[str, Any]
    root: Path

    @classmethod
    def of(cls, config: pytest.Config) -> Self:
        """Read both; BadSetting names the flag or ini option that is wrong."""
        ini: dict[str, Any] = {}
        cli: dict[str, Any] = {}
        for option in OPTIONS:
            raw = config.getini(option.dest)
            if raw is not None and raw != []:
                ini[option.target] = read(option, raw, f"ini option {option.dest}")
            raw = None if option.ini_only else config.getoption(option.dest)
            if raw is not None:
                cli[option.target] = read(option, raw, option.typed)
        return cls(ini, cli, config.rootpath)

    @property
    def defaults(self) -> dict[str, Any]:
        return {"missing": "fail" if os.environ.get("CI") else "warn"}

    @property
    def given(self) -> bool:
        """Whether the command line says anything about this plugin."""
        return bool(self.cli)

    def session(self) -> Settings:
        found = Settings.merge(self.defaults, self.ini, self.cli)
        if found.shard is not None and found.json is None:  # a shard is for its record
            return replace(found, json="vdb-shard-{}-of-{}.json".format(*found.shard))
        return found

    def resolve(self, markers: Iterable[Mapping[str, Any]]) -> Settings:
        """A test's settings; ``markers`` as ``marker.layers`` gives them, farthest first.

        Under ``--vdb-baseline-ref`` a marker, which is the change's, can make what a missing or an
        inconclusive comparison does stricter, and no looser.
        """
        found = Settings.merge(self.defaults, self.ini, *markers, self.cli)
        if found.explores:
            found = replace(found, gate="off", require=False)
        floor = self.session()
        if floor.baseline_ref is None:
            return found
        loose = [
            name
            for name in ("missing", "inconclusive")
            if getattr(found, name) == "warn" != getattr(floor, name)
        ]
        kept = {name: getattr(floor, name) for name in loose}
        return replace(found, **kept, overruled=tuple(f"{name}='warn'" for name in loose))


SWEEP_MARKER = (
    "vdb_sweep(num_inference_steps=[...], guidance_scale=[...], ..., mode='grid', call={}): run "
    "the test at every combination of these values, or with mode='one-at-a-time' (docs/sweeps.md)"
)

MARKER = (
    "vdb(prompts='smoke', num_seeds=1, seeds=None, tolerance={}, timeout=None, call={}, "
    "num_frames=..., num_inference_steps=..., ...): the workload and limits of a video-diffusion "
    "benchmark (docs/reference.md)"
)
