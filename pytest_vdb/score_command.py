"""``vdb score``: metrics of videos on disk, without a test."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_vdb.errors import BadSetting, VdbError
from pytest_vdb.records import Json
from pytest_vdb.units import columns, plain

if TYPE_CHECKING:
    from pytest_vdb.metrics.registry import MetricSpec
    from pytest_vdb.metrics.scoring import Score, Scores


def arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("videos", nargs="+", type=Path, help="files, or one folder: its clips, or its manifest's")
    add("--metrics", metavar="NAME,...", help="default: all of single frames that work here")
    add("--vbench", action="store_true", help="VBench's seven quality dimensions and their total")
    add("--references", type=Path, metavar="DIR", help="videos of the same names to compare with")
    add("--weights", type=Path, metavar="DIR", help="as --vdb-metric-weights")
    add("--device", default="cpu", help="where metric networks compute (default: cpu)")
    add("--dtype", default="float32", help="float32, bfloat16 or float16 (default: float32)")
    add("--batch", type=int, default=8, metavar="N", help="windows of frames a network gets (8)")
    add("--cache", type=Path, metavar="DIR", help="keep what networks computed, for the next time")
    add("--json", type=Path, metavar="PATH", help="write every number and its provenance")


def run(options: argparse.Namespace, extra: Sequence[MetricSpec]) -> int:
    """Print a line a metric. The exit status is 1 where one that was asked for is unmeasured."""
    from pytest_vdb.metrics.scoring import evaluate

    _check(options)
    clips, prompts = _clips(options.videos)
    names = _names(options, extra, prompts is not None)
    references = _references(clips, options, names, extra)
    with _progress(len(clips)) as progress:
        scores = evaluate(
            clips,
            names,
            prompts=prompts,
            references=references,
            weights=options.weights,
            device=options.device,
            dtype=options.dtype,
            batch=options.batch,
            cache=options.cache,
            extra=extra,
            progress=progress,
        )
    if options.json is not None:
        options.json.write_text(json.dumps(as_json(scores), indent=2), encoding="utf-8")
    print(table(scores))
    return int(any(s.value is None for found in scores.scores.values() for s in found))


def _check(options: argparse.Namespace) -> None:
    """Raise BadSetting for paths and devices that cannot be, before minutes of work."""
    from pytest_vdb.environment import resolve_device
    from pytest_vdb.readers import device

    try:
        options.device = resolve_device(device(options.device))
    except BadSetting as error:
        raise BadSetting(f"vdb score: --device: {error}") from None
    if options.weights is not None and not options.weights.is_dir():
        raise BadSetting(f"vdb score: --weights: there is no folder {options.weights}")
    if options.cache is not None and options.cache.is_file():
        raise BadSetting(f"vdb score: --cache: {options.cache} is a file; name a folder")
    if options.json is not None and not options.json.absolute().parent.is_dir():
        raise BadSetting(f"vdb score: --json: there is no folder {options.json.parent}")


def _clips(given: Sequence[Path]) -> tuple[list[Path], list[str] | None]:
    """The videos, and their prompts where a manifest says them."""
    from pytest_vdb.models.recorded import MANIFEST, SUFFIXES, read_manifest

    if len(given) > 1 or given[0].is_file():
        return list(given), None
    folder = given[0]
    if not folder.is_dir():
        raise BadSetting(f"vdb score: there is no {folder}; name video files, or a folder of them")
    if (folder / MANIFEST).is_file():
        entries = read_manifest(folder)
        return [folder / entry.file for entry in entries], [entry.prompt for entry in entries]
    clips = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    if not clips:
        raise BadSetting(
            f"vdb score: {folder} has no video ({', '.join(sorted(SUFFIXES))}) and no {MANIFEST}"
        )
    return clips, None


def _references(
    clips: Sequence[Path],
    options: argparse.Namespace,
    names: Sequence[str],
    extra: Sequence[MetricSpec],
) -> list[Path] | None:
    """The file of each clip's name; all of the folder where metrics of sets alone are asked for."""
    from pytest_vdb.metrics.registry import Metrics

    if options.references is None:
        return None
    known = Metrics(extra)
    if all(known.find(name).of_set for name in names):
        return _clips([options.references])[0]
    if len({clip.name for clip in clips}) < len(clips):
        raise BadSetting(
            "vdb score: two videos have the same name, and a reference has its video's name; score "
            "one folder at a time"
        )
    partners = [options.references / clip.name for clip in clips]
    lacking = [path.name for path in partners if not path.is_file()]
    if lacking:
        raise BadSetting(
            f"vdb score: {options.references} has no {', '.join(lacking[:3])}; a reference has its "
            "video's name"
        )
    return partners


def _names(
    options: argparse.Namespace, extra: Sequence[MetricSpec], prompted: bool
) -> Sequence[str]:
    from pytest_vdb.metrics import vbench
    from pytest_vdb.metrics.listing import available
    from pytest_vdb.metrics.registry import Metrics

    if options.metrics is not None or options.vbench:
        asked = [] if options.metrics is None else options.metrics.split(",")
        return [*(name.strip() for name in asked), *(vbench.QUALITY if options.vbench else ())]
    inputs = {"frames"} | ({"prompt"} if prompted else set())
    inputs |= {"reference"} if options.references is not None else set()
    return [
        spec.name
        for spec in Metrics(extra)
        if spec.needs in inputs
        and not spec.name.startswith("shapes_")  # of the embedded model's videos alone
        and available(spec, options.weights)[0] == "available"
    ]


@contextmanager
def _progress(total: int) -> Iterator[Callable[[int, int], None] | None]:
    """A bar on a terminal, and nothing elsewhere."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("scoring", total=total)
        yield lambda done, _: bar.update(task, completed=done)


def table(scores: Scores) -> str:
    """A line a metric: mean, least and greatest over the videos, or why there is none."""
    rows: list[tuple[str, ...]] = [("metric", "mean", "min", "max", "videos")]
    told: list[str] = []
    for name, found in scores.scores.items():
        values = [score.value for score in found if score.value is not None]
        lost = [score.reason for score in found if score.value is None]
        of = f"{len(values)} of {len(found)}" if lost else str(len(values))
        of_all = () if lost else (scores.mean(name), min(values), max(values))
        numbers = [f"{number:.4g}" for number in of_all] or ["–"] * 3
        rows.append((name, *numbers, of))
        told += [f"{name}: unmeasured: {plain(reason)}" for reason in dict.fromkeys(lost)]
    total = _vbench_quality(scores)
    if total is not None:
        known = total.value is not None
        told.append(f"VBench quality: {total.value:.4g}" if known else plain(total.reason))
    return "\n".join([*columns(rows), *([""] if told else []), *told])


def _vbench_quality(scores: Scores) -> Score | None:
    """VBench's quality total, or why there is none; None where fewer than two of its dimensions
    were asked for (temporal_flickering is in every table)."""
    from pytest_vdb.metrics import vbench
    from pytest_vdb.metrics.scoring import Score

    if len(scores.scores.keys() & set(vbench.QUALITY)) < 2:
        return None
    try:
        return Score(scores.vbench_quality())
    except VdbError as error:
        return Score(None, str(error))


def as_json(scores: Scores) -> dict[str, Json]:
    """Every number in the order of ``videos``: null, and a reason that is not empty, for none."""
    total = _vbench_quality(scores)
    return {
        "schema": 1,
        "videos": list(scores.videos),
        "metrics": {
            name: {
                "values": [score.value for score in found],
                "reasons": [score.reason for score in found],
                "provenance": scores.provenance[name].to_json(),
            }
            for name, found in scores.scores.items()
        },
        "vbench_quality": None if total is None else {"value": total.value, "reason": total.reason},
    }
