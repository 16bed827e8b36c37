"""What is known of a video server besides its videos: how it is asked, and what it tells.

Nothing here talks to a server.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from pytest_vdb.errors import BadSetting, nearest
from pytest_vdb.models.video_api import Reply, parsed
from pytest_vdb.records import Json
from pytest_vdb.units import MiB

OPTIONS: dict[str, tuple[type, float, float]] = {
    "poll_interval": (float, 0.1, 0.001),
    "concurrency": (int, 1, 1),
    "retries": (int, 2, 0),
    "request_timeout": (float, 30.0, 0.001),
    "job_timeout": (float, 3600.0, 0.001),
}
"""Of ``ModelSpec.options``: type, default and least value; times in seconds."""

STAGES = (  # what a profiler's name ends in; names of this plugin first
    ("text_encode", ("text_encode", "text_encoder.forward", "tokenizer.forward", "encode_prompt")),
    ("image_encode", ("image_encode", "image_encoder.forward", "vae.encode")),
    ("denoise", ("denoise", "diffuse")),
    ("decode", ("decode", "vae.decode")),
)


def read_options(options: Mapping[str, Json]) -> dict[str, Any]:
    """``OPTIONS`` with what ``options`` sets. Raises BadSetting."""
    values: dict[str, Any] = {name: default for name, (_, default, _) in OPTIONS.items()}
    for name, value in options.items():
        if name not in OPTIONS:
            raise BadSetting(
                f"option {name!r} does nothing to a server: {nearest(name, OPTIONS)}; how the "
                "server runs its model is said when it is started"
            )
        kind, _, least = OPTIONS[name]
        right = isinstance(value, int if kind is int else int | float)
        if not right or isinstance(value, bool) or not least <= value < math.inf:
            what = "a whole number" if kind is int else "a number of seconds"
            raise BadSetting(f"{name}={value!r}: give {what} from {least:g}")
        values[name] = kind(value)
    return values


def too_coarse(interval: float, tolerance: float) -> str | None:
    """Why looking every ``interval`` seconds cannot judge a change of ``tolerance`` seconds.

    None where it can: the interval is at most a quarter of the tolerance, so that what polling
    adds to two medians stays well below what it is to detect.
    """
    if interval <= tolerance / 4:
        return None
    return (
        f"jobs are looked at every {interval:.4g} s, which is over a quarter of the tolerance "
        f"({tolerance:.4g} s): set --vdb-set poll_interval={_below(tolerance / 4)}, loosen the "
        "latency's tolerance, generate longer videos, or use a server's /v1/videos/sync"
    )


def _below(seconds: float) -> str:
    """One significant digit, rounded down."""
    if not seconds > 0:
        return "..."
    unit = 10.0 ** math.floor(math.log10(seconds))
    return f"{math.floor(seconds / unit) * unit:.1g}"


def memory_of(report: Mapping[str, Json]) -> dict[str, int]:
    """``peak_memory_mb`` in bytes, which sglang and vllm-omni count in MiB of reserved memory.

    A server that measured nothing says 0 or leaves it out; then there is nothing.
    """
    said = _positive(report.get("peak_memory_mb"))
    return {} if said is None else {"reserved": round(said * MiB)}


def stages_of(
    report: Mapping[str, Json], seconds: float | None, slack: float = 0.0
) -> dict[str, float]:
    """Exclusive seconds by stage that sum to ``seconds``, from the server's ``stage_durations``.

    Names of profilers are read by their ends (``WanPipeline.vae.decode``); what no name of ours
    fits, such as a stage around others, is left out, and the rest of ``seconds`` is ``other``.
    Nothing where the server tells no stage, or stages that last longer than the job. ``slack`` is
    by how much ``seconds`` may fall short of the truth: so much longer the stages may be.
    """
    durations = report.get("stage_durations")
    if seconds is None or not isinstance(durations, dict):
        return {}
    stages: dict[str, float] = {}
    for name, value in durations.items():
        stage, known = _stage(str(name)), _positive(value)
        if stage and known is not None:
            stages[stage] = stages.get(stage, 0.0) + known
    rest = seconds - sum(stages.values())
    if not stages or rest < -slack:
        return {}
    return {**stages, "other": rest} if rest > 0 else stages


def _stage(name: str) -> str | None:
    for stage, ends in STAGES:
        if any(name == end or name.endswith("." + end) for end in ends):
            return stage
    return None


def _positive(value: Json) -> float | None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if number and 0 < value < math.inf else None


def from_headers(reply: Reply) -> dict[str, Json]:
    """What a synchronous answer tells in its headers, under the names of a job's record."""
    named = {
        "peak_memory_mb": "x-peak-memory-mb",
        "stage_durations": "x-stage-durations",
        "inference_time_s": "x-inference-time-s",
    }
    return {name: parsed(reply.headers.get(header, "").encode()) for name, header in named.items()}
