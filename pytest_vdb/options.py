"""Every ``--vdb-*`` flag and ``vdb_*`` ini option, merged into one frozen ``Settings``.

Precedence: command line, then marker, then ini file, then default. Nothing heavy is imported.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import pytest

from pytest_vdb.errors import BadSetting

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
    json: str | None = None
    metric_weights: str | None = None
    metric_device: str = "cpu"
    # of the workload
    prompts: str | tuple[str, ...] = ""  # the model's own suite
    seeds: tuple[int, ...] = (0,)
    call: Mapping[str, Any] = field(default_factory=dict)
    allow: tuple[str, ...] = ()

    @classmethod
    def merge(cls, *layers: Mapping[str, Any]) -> Self:
        """Merge layers, weakest first; mappings merge key by key."""
        merged: dict[str, Any] = {}
        for layer in layers:
            for key, value in layer.items():
                merged[key] = {**merged.get(key, {}), **value} if isinstance(value, dict) else value
        return cls(**merged)

    @property
    def consequences(self) -> Consequences:
        from pytest_vdb.gate.policy import Consequences

        return Consequences(self.gate, self.missing, self.inconclusive, self.require, self.update)


# --------------------------------------------------------------------- readers of one value


def choice(*allowed: str) -> Any:
    def read(text: str) -> str:
        if text not in allowed:
            raise BadSetting(f"{text!r} is not one of {', '.join(allowed)}")
        return text

    return read


def duration(text: object) -> float:
    """Seconds of ``"90"``, ``"90s"``, ``"20min"`` or ``"2h"``."""
    if isinstance(text, str):
        for unit, factor in (("min", 60), ("ms", 0.001), ("h", 3600), ("s", 1), ("", 1)):
            if text.endswith(unit):
                try:
                    seconds = float(text.removesuffix(unit)) * factor
                except ValueError:
                    continue
                if 0 < seconds < float("inf"):
                    return seconds
    elif isinstance(text, int | float) and not isinstance(text, bool) and 0 < text < float("inf"):
        return float(text)
    raise BadSetting(f"{text!r} is no duration; write e.g. 90s, 20min or 2h")


def count(text: object) -> int:
    try:
        number = int(str(text))
    except ValueError:
        number = 0
    if number < 1:
        raise BadSetting(f"{text!r} is no positive whole number")
    return number


def size(text: str) -> int:
    """Bytes of ``"20GiB"``, ``"512MiB"`` or ``"20GB"``."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT])(i?)B\s*", text)
    if match is None or not float(match[1]):
        raise BadSetting(f"{text!r} is no size; write e.g. 20GiB or 512MiB")
    power = "KMGT".index(match[2]) + 1
    return int(float(match[1]) * (1024 if match[3] else 1000) ** power)


def device(text: str) -> str:
    if re.fullmatch(r"auto|cpu|cuda(:\d+)?", text):
        return text
    raise BadSetting(f"{text!r} is no device; write auto, cpu, cuda or cuda:0")


def assignment(text: str) -> dict[str, str]:
    key, sign, value = text.partition("=")
    if not sign or not key.strip():
        raise BadSetting(f"{text!r} lacks a '='; write NAME=VALUE")
    return {key.strip(): value.strip()}


def _tolerance(text: str) -> dict[str, str]:
    from pytest_vdb.gate.policy import Tolerance

    pair = assignment(text)
    for value in pair.values():
        Tolerance.parse(value)
    return pair


def literal(text: str) -> Any:
    """A call argument from the command line: int, float, true/false, none, else the text."""
    words: dict[str, Any] = {"true": True, "false": False, "none": None}
    if text.lower() in words:
        return words[text.lower()]
    for number in (int, float):
        try:
            return number(text)
        except ValueError:
            continue
    return text


def _setting(text: str) -> dict[str, Any]:
    return {key: literal(value) for key, value in assignment(text).items()}


# --------------------------------------------------------------------- the table of options


@dataclass(frozen=True)
class Option:
    """One flag and its ini twin. ``many``: the flag may be given again; the values add up."""

    name: str
    help: str
    metavar: str | None = None
    read: Any = str
    field: str = ""
    many: bool = False
    flag: bool = False
    ini_only: bool = False

    @property
    def target(self) -> str:
        return self.field or self.name

    @property
    def dest(self) -> str:
        return f"vdb_{self.name}"


OPTIONS = (
    Option(
        "model",
        "model under test: a catalog name, hub id, local folder, module:function or URL of a video "
        "API (repeatable; default shapes)",
        "NAME",
        field="models",
        many=True,
    ),
    Option("videos", "gate recorded videos: a folder with prompts.jsonl", "DIR"),
    Option(
        "weights",
        "pretrained, or random: the real architecture with seeded random weights, no download",
        "KIND",
        choice("pretrained", "random"),
    ),
    Option(
        "serve",
        "command that starts a server of the model's video API; {port} stands for the port",
        "CMD",
    ),
    Option(
        "prompts",
        "prompt suite or file, over the marker's (a suite's name, .jsonl, .csv, .txt, a folder; "
        "default: the model's own, else smoke)",
        "NAME",
    ),
    Option("device", "auto, cpu, cuda or cuda:N", "DEVICE", device),
    Option(
        "dtype",
        "dtype of the model, e.g. bfloat16 (default: the model's own)",
        "DTYPE",
        choice("float32", "bfloat16", "float16", "float64"),
    ),
    Option(
        "set",
        "call argument of the pipeline, or load option (vae_tiling, compile, ...), over the "
        "marker's (repeatable)",
        "KEY=VALUE",
        _setting,
        field="call",
        many=True,
    ),
    Option(
        "runner",
        "where generation runs: auto, inprocess or child (a process group of its own)",
        "KIND",
        choice("auto", "inprocess", "child"),
    ),
    Option(
        "cache_budget",
        "memory that loaded pipelines may take together, e.g. 20GiB (default: most of the device)",
        "SIZE",
        size,
    ),
    Option(
        "grid",
        "carbon intensity of the grid: g CO2 a kWh, or a country's three letters (codecarbon)",
        "G_PER_KWH",
    ),
    Option("timeout", "limit of one load and of one generation, e.g. 90s", "TIME", duration),
    Option("pool", "name of the machine pool; part of the latency baseline's identity", "NAME"),
    Option("crowded", "measure latency with more workers than devices; recorded", flag=True),
    Option("baselines", "folder of the baselines (default: baselines)", "DIR"),
    Option("store", "folder of the reference media (default: BASELINES/media)", "DIR"),
    Option(
        "reference",
        "what an update keeps of a large video: latent (and a preview) or lossless",
        "KIND",
        choice("latent", "lossless"),
    ),
    Option("sessions", "sessions kept of each measurement (default 5)", "K", count, ini_only=True),
    Option("update", "write what ran and passed to the baselines", flag=True),
    Option(
        "update_mode",
        "missing: write new measurements only; all: append a session",
        "MODE",
        choice("missing", "all"),
    ),
    Option(
        "gate",
        "what a regression does: fail, warn, or off (compare nothing)",
        "ACTION",
        choice("fail", "warn", "off"),
    ),
    Option(
        "missing",
        "what a missing baseline does: fail or warn (default: fail where CI is set)",
        "ACTION",
        choice("fail", "warn"),
    ),
    Option(
        "inconclusive",
        "what an inconclusive comparison does (default: quality warns, all else fails)",
        "ACTION",
        choice("fail", "warn"),
    ),
    Option("require", "fail on measurements that cannot be gated", flag=True),
    Option(
        "tolerance",
        "tolerance of a measurement, e.g. latency=5%% or sharpness=0.1abs (repeatable)",
        "NAME=VALUE",
        _tolerance,
        many=True,
    ),
    Option(
        "guard_m",
        "comparisons that the false-alarm guard corrects for, by Bonferroni (default 200)",
        "M",
        count,
        ini_only=True,
    ),
    Option("json", "write the results as JSON", "PATH"),
    Option("metric_weights", "folder of metric networks' weights: DIR/NETWORK/FILE", "DIR"),
    Option("metric_device", "where metric networks compute (default: cpu)", "DEVICE", device),
)


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
        group.addoption("--" + option.dest.replace("_", "-"), **how)


def _read(option: Option, raw: Any, where: str) -> Any:
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
                ini[option.target] = _read(option, raw, f"ini option {option.dest}")
            raw = None if option.ini_only else config.getoption(option.dest)
            if raw is not None:
                flag = "--" + option.dest.replace("_", "-")
                cli[option.target] = _read(option, raw, flag)
        return cls(ini, cli, config.rootpath)

    @property
    def defaults(self) -> dict[str, Any]:
        return {"missing": "fail" if os.environ.get("CI") else "warn"}

    @property
    def given(self) -> bool:
        """Whether the command line says anything about this plugin."""
        return bool(self.cli)

    def session(self) -> Settings:
        return Settings.merge(self.defaults, self.ini, self.cli)

    def resolve(self, markers: Iterable[Mapping[str, Any]]) -> Settings:
        """A test's settings; ``markers`` as ``marker.layers`` gives them, farthest first."""
        return Settings.merge(self.defaults, self.ini, *markers, self.cli)


MARKER = (
    "vdb(prompts='smoke', num_seeds=1, seeds=None, tolerance={}, timeout=None, call={}, "
    "num_frames=..., num_inference_steps=..., ...): the workload and limits of a video-diffusion "
    "benchmark (docs/reference.md)"
)
