"""Every ``--vdb-*`` flag and ``vdb_*`` ini option: a table, and how one value is read.

Nothing heavy is imported.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

from pytest_vdb.errors import BadSetting

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


def shard(text: str) -> tuple[int, int]:
    """(2, 4) of ``"2/4"``."""
    match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text.strip())
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise BadSetting(f"{text!r} is no shard; write I/N, from 1/4 to 4/4")
    return int(match[1]), int(match[2])


def processes(text: object) -> int:
    """How many process pairs at most: a look is taken after 3, 4, 6 and 8; 1 and 2 are trials."""
    number = count(text)
    if number not in (1, 2, 3, 4, 6, 8):
        raise BadSetting(f"{text!r}: the gate looks after 3, 4, 6 and 8 process pairs; name one")
    return number


def share(text: str) -> float:
    """A number from 0 to 1."""
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number <= 1:
        raise BadSetting(f"{text!r} is no share; write a number from 0 to 1, e.g. 0.9")
    return number


def size(text: str) -> int:
    """Bytes of ``"20GiB"``, ``"512MiB"`` or ``"20GB"``."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT])(i?)B\s*", text)
    if match is None or not float(match[1]):
        raise BadSetting(f"{text!r} is no size; write e.g. 20GiB or 512MiB")
    power = "KMGT".index(match[2]) + 1
    return int(float(match[1]) * (1024 if match[3] else 1000) ** power)


def url(text: str) -> str:
    """An http(s) address of printable ASCII that ends no Markdown link and no HTML attribute."""
    if re.fullmatch(r"https?://[\w.~:/?#@!$&*+,;=%-]+", text, re.ASCII):
        return text
    raise BadSetting(f"{text!r} is no address of a page; write https://HOST/PATH, escaped by %")


def device(text: str, kinds: str = "auto|cpu") -> str:
    if re.fullmatch(rf"{kinds}|cuda(:\d+)?", text):
        return text
    raise BadSetting(f"{text!r} is no device; write {kinds.replace('|', ', ')}, cuda or cuda:0")


def metric_device(text: str) -> str:
    return device(text, "cluster|auto|cpu")


def cluster(text: str) -> str:
    """The address of a Ray cluster; an IPv6 host stands in brackets."""
    if re.fullmatch(r"local|auto|(ray://)?([\w.-]+|\[[\da-fA-F:]+\]):\d{1,5}", text):
        return text
    raise BadSetting(f"{text!r} is no cluster; write local, auto, ray://HOST:PORT or HOST:PORT")


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


def _sweep(text: str) -> dict[str, tuple[Any, ...]]:
    ((key, said),) = assignment(text).items()
    values = tuple(literal(value.strip()) for value in said.split(","))
    if any(value == "" for value in values):
        raise BadSetting(f"{text!r} has an empty value; write KEY=V1,V2")
    if len({*map(repr, values)}) < len(values):
        raise BadSetting(f"{text!r} names one value twice")
    if any(isinstance(value, float) and not math.isfinite(value) for value in values):
        raise BadSetting(f"{text!r} has a value that is no finite number")
    return {key: values}


# --------------------------------------------------------------------- the table of options


@dataclass(frozen=True)
class Option:
    """One flag and its ini twin. ``many``: the flag may be given again; the values add up."""

    name: str
    help: str
    metavar: str | None = None
    read: Any = str
    field: str = ""
    alias: str = ""
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
        "cluster",
        "generate on a Ray cluster: local, auto, ray://HOST:PORT or HOST:PORT",
        "ADDRESS",
        cluster,
    ),
    Option(
        "actors", "copies of a model on the cluster at most (default: all that fit)", "N", count
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
    Option(
        "against",
        "run what the stored baseline leaves open beside a base: a git ref, a folder, python:PATH "
        "of another environment, or a requirement such as diffusers==0.41.0",
        "REF",
        field="base",
        alias="base",
    ),
    Option("base_setup", "shell command, run once in a new checkout of the base", "CMD"),
    Option("budget", "limit of all side-by-side runs together, e.g. 20min", "TIME", duration),
    Option(
        "ab_processes",
        "processes a side at most, of 3, 4, 6 and 8 (default: 8 in at most 5 minutes, or 3)",
        "N",
        processes,
    ),
    Option(
        "ab_steps", "denoise steps of a side-by-side generation at most (default 8)", "N", count
    ),
    Option(
        "baseline_ref",
        "git ref to read baselines, accepted entries and policy from: the change's base",
        "REF",
    ),
    Option("accepted", "folder of accepted entries (default: accepted)", "DIR"),
    Option("honour_accepted", "let reviewed entries of `vdb accept` pass", flag=True),
    Option(
        "run_source",
        "what is run: base (its sessions may become baselines) or change (default: as CI says)",
        "KIND",
        choice("base", "change"),
    ),
    Option("prove", "tell which assertion and rule notices which fault", flag=True),
    Option(
        "prove_generate",
        "prove also with a model made worse: one step fewer, other scheduler, other weights",
        flag=True,
    ),
    Option(
        "prove_min",
        "share of the faults that a model's tests must notice together, e.g. 0.9",
        "SHARE",
        share,
    ),
    Option("json", "write the results as JSON", "PATH"),
    Option("keep", "keep beside --vdb-json what `vdb bundle` needs, such as videos", flag=True),
    Option("markdown", "write what a pull request shows, as Markdown", "PATH"),
    Option("report_url", "page of this run's files, which --vdb-markdown links to", "URL", url),
    Option(
        "github",
        "auto: in a GitHub job, add to the step's summary and annotate failing lines; or off",
        "WHEN",
        choice("auto", "off"),
    ),
    Option("html", "write the results as a page with videos: a folder, of a new name", "PATH"),
    Option("csv", "write the measurements as CSV, a row each", "PATH"),
    Option("latex", "write the measurements as tables for a paper (booktabs)", "PATH"),
    Option("openmetrics", "write the measurements as OpenMetrics text, for Prometheus", "PATH"),
    Option("benchmark_json", "write the times as pytest-benchmark's JSON", "PATH"),
    Option(
        "shard", "run one part of the suite, such as 2/4; vdb merge owns the verdict", "I/N", shard
    ),
    Option(
        "sweep",
        "run every test at each of these values of a call argument or load option, over a "
        "vdb_sweep marker; compared with no baseline (repeatable)",
        "KEY=V1,V2",
        _sweep,
        many=True,
    ),
    Option(
        "sweep_mode",
        "of --vdb-sweep: grid (every combination) or one-at-a-time",
        "MODE",
        choice("grid", "one-at-a-time"),
    ),
    Option(
        "recommend",
        "limits such as clip_score>=28,latency<=2s: name the cheapest swept point that "
        "certainly keeps them",
        "LIMITS",
    ),
    Option("durations", "file of tests' seconds, to place them by; --vdb-update writes it", "PATH"),
    Option("reuse", "judge videos that an earlier run of the same code generated", flag=True),
    Option("reuse_folder", "where --vdb-reuse keeps videos (default: the user's cache)", "DIR"),
    Option("reuse_size", "what --vdb-reuse keeps at most, e.g. 20GiB (default)", "SIZE", size),
    Option("metric_weights", "folder of metric networks' weights: DIR/NETWORK/FILE", "DIR"),
    Option("metric_device", "device of metric networks, or cluster", "DEVICE", metric_device),
    Option(
        "metric_dtype",
        "dtype in which metric networks compute (default: float32)",
        "DTYPE",
        choice("float32", "bfloat16", "float16"),
    ),
    Option("metric_batch", "windows of frames a metric network gets (default 8)", "N", count),
    Option("metric_cache", "folder that keeps what metric networks computed", "DIR"),
)
