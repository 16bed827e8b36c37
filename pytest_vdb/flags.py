"""Every ``--vdb-*`` flag and ``vdb_*`` ini option, as a table. Nothing heavy is imported."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pytest_vdb.readers import (
    choice,
    cluster,
    count,
    device,
    duration,
    metric_device,
    processes,
    setting,
    shard,
    share,
    size,
    sweep,
    tolerance,
    url,
)


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

    @property
    def typed(self) -> str:
        """The flag as it is typed: ``--vdb-baseline-ref``."""
        return "--" + self.dest.replace("_", "-")


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
        setting,
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
        tolerance,
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
        sweep,
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
