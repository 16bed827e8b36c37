"""A trace: what left each component of a pipeline in one generation, in a few numbers each."""

from __future__ import annotations

import base64
import binascii
import gzip
import io
import json
import math
import struct
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from statistics import fmean
from typing import TYPE_CHECKING, Any

from pytest_vdb.errors import BaselineError

if TYPE_CHECKING:
    from pytest_vdb.records import Sample

DIRECTIONS = 16
"""Numbers of a projection."""
PACKED = f"<I{DIRECTIONS}f"
"""The crc and the projection of a point, in little-endian binary."""
SCHEMA = 1
LARGEST = 2**22
"""A trace has some kilobytes; more than this many bytes are none."""


@dataclass(frozen=True)
class Point:
    """What left one component at one call.

    ``step`` counts denoise steps from 1, and is 0 outside of them; ``call`` counts from 0 what the
    same ``part`` gave within the step (guidance calls a denoiser twice). ``part`` is the
    component's name, a block of it as in ``transformer.blocks.3``, or one of the three below.
    ``norm`` is the L2 norm, None where a value is NaN or infinite; ``crc`` is that of the values
    as float32; ``projection`` holds `DIRECTIONS` random projections (`measure.trace.project`).
    """

    stage: str
    step: int
    part: str
    call: int
    shape: tuple[int, ...]
    norm: float | None
    crc: int
    projection: tuple[float, ...]

    @property
    def key(self) -> tuple[str, int, str, int]:
        return (self.stage, self.step, self.part, self.call)


BROKEN = (
    *(OSError, EOFError, zlib.error, RecursionError),
    *(ValueError, TypeError, KeyError, AttributeError),
)
"""What reading a file that is no trace raises."""

INITIAL = "initial latents"
"""What the denoiser receives at its first call."""
CONDITIONING = "conditioning"
"""What else it receives then: timestep and embeddings."""
GUIDED = "guidance"
"""What the scheduler receives, where that is not what the denoiser gave."""


@dataclass(frozen=True)
class Trace:
    """The points of one generation of ``sample`` (a sample key), in the order of time.

    Of the denoise steps it keeps the first and each ``every``-th. ``versions`` are those of the
    process that generated, ``dtypes`` the coarsest of each component's weights. ``seconds`` and
    ``memory`` (peak bytes) are by stage over the run's samples, ``conditions`` what the machine was
    busy with; all three are empty where the trace stands for quality alone. ``reason`` says why
    there are no points.
    """

    sample: str
    points: tuple[Point, ...] = ()
    every: int = 1
    versions: dict[str, str] = field(default_factory=dict)
    dtypes: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    memory: dict[str, int] = field(default_factory=dict)
    conditions: dict[str, float] = field(default_factory=dict)
    reason: str = ""

    @property
    def numbers(self) -> Trace:
        """The trace without what differs from run to run of the same code."""
        return replace(self, seconds={}, memory={}, conditions={})

    def to_json(self) -> dict[str, Any]:
        rows = [
            [p.stage, p.step, p.part, p.call, list(p.shape), p.norm, _packed(p)]
            for p in self.points
        ]
        return {
            "schema": SCHEMA,
            "sample": self.sample,
            "every": self.every,
            "versions": self.versions,
            "dtypes": self.dtypes,
            "seconds": self.seconds,
            "memory": self.memory,
            "conditions": self.conditions,
            "reason": self.reason,
            "points": rows,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Trace:
        """Raises ValueError, TypeError or KeyError for what is no trace."""
        if data["schema"] != SCHEMA:
            raise ValueError(f"it has schema {data['schema']!r}, this one reads {SCHEMA}")
        return cls(
            str(data["sample"]),
            tuple(_point(*row) for row in data["points"]),
            max(1, int(data["every"])),
            {str(k): str(v) for k, v in data["versions"].items()},
            {str(k): str(v) for k, v in data["dtypes"].items()},
            {str(k): _finite(v) for k, v in data["seconds"].items()},
            {str(k): int(v) for k, v in data["memory"].items()},
            {str(k): _finite(v) for k, v in data["conditions"].items()},
            str(data["reason"]),
        )

    def dumps(self) -> bytes:
        """Gzipped JSON; equal traces are equal bytes."""
        text = json.dumps(self.to_json(), sort_keys=True, allow_nan=False, separators=(",", ":"))
        return gzip.compress(text.encode(), mtime=0)


def weighed(trace: Trace, samples: Iterable[Sample], cpu_stages: Mapping[str, int]) -> Trace:
    """``trace`` with the seconds and highest peaks by stage of the same run's ``samples``.

    Seconds are the mean of the n//2 fastest, as the gate sums up a latency. The peaks are the
    device's where it has any, else ``cpu_stages``.
    """
    seconds: dict[str, list[float]] = {}
    memory: dict[str, int] = {}
    for sample in samples:
        for stage, spent in sample.stages.items():
            seconds.setdefault(stage, []).append(spent)
        for name, peak in sample.memory.items():
            if name.startswith("stage."):
                stage = name.removeprefix("stage.")
                memory[stage] = max(peak, memory.get(stage, 0))
    fastest = {
        stage: round(fmean(sorted(spent)[: max(1, len(spent) // 2)]), 6)
        for stage, spent in seconds.items()
    }
    return replace(trace, seconds=fastest, memory=memory or dict(cpu_stages))


def loads(content: bytes, where: str) -> Trace:
    """The trace of these bytes, which came from ``where``. Raises BaselineError."""
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as file:
            text = file.read(LARGEST + 1)
        if len(text) > LARGEST:
            raise ValueError(f"more than {LARGEST} bytes")
        return Trace.from_json(json.loads(text))
    except BROKEN as error:
        raise BaselineError(
            f"{where} is no trace of a generation ({error}); write the baseline anew with "
            "--vdb-update --vdb-update-mode=all"
        ) from None


def _point(
    stage: str, step: int, part: str, call: int, shape: list[int], norm: Any, packed: str
) -> Point:
    try:
        crc, *values = struct.unpack(PACKED, base64.b64decode(packed, validate=True))
    except (struct.error, binascii.Error) as error:
        raise ValueError(str(error)) from None
    return Point(
        str(stage),
        int(step),
        str(part),
        int(call),
        tuple(int(n) for n in shape),
        None if norm is None else _finite(norm),
        crc,
        tuple(_finite(value) for value in values),
    )


def _packed(point: Point) -> str:
    return base64.b64encode(struct.pack(PACKED, point.crc, *point.projection)).decode()


def _finite(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{number} is no measurement")
    return number
