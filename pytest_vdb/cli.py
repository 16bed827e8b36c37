"""The ``vdb`` command: what is known, and building a folder of recorded videos."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from pytest_vdb.errors import VdbError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one subcommand; a user's mistake is one line on stderr and exit code 2."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        options.run(options)
    except VdbError as error:
        print(f"vdb: {error}", file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("vdb", description="video-diffusion benchmarks (pytest-vdb)")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    models = commands.add_parser("models", help="list the models that --vdb-model knows")
    models.set_defaults(run=_models)
    metrics = commands.add_parser("metrics", help="list the metrics that vdb.score() knows")
    metrics.set_defaults(run=_metrics)
    videos = commands.add_parser(
        "videos",
        help="build a folder for --vdb-videos from real generated clips (pytest-vdb[videos])",
    )
    videos.add_argument("folder", type=Path, help="where to put clips and prompts.jsonl")
    videos.set_defaults(run=_videos)
    return parser


def _models(_: argparse.Namespace) -> None:
    from pytest_vdb.models.registry import Registry

    registry = Registry([])
    specs = [registry.find(name) for name in registry.names()]
    width = max(len(spec.name) for spec in specs)
    for spec in specs:
        print(f"{spec.name:{width}}  {spec.summary}")


def _metrics(_: argparse.Namespace) -> None:
    from pytest_vdb.metrics.registry import Metrics

    specs = list(Metrics())
    width = max(len(spec.name) for spec in specs)
    for spec in specs:
        print(f"{spec.name:{width}}  {spec.direction:6} is better  {spec.summary}")


def _videos(options: argparse.Namespace) -> None:
    from pytest_vdb.models import comfyui

    entries = comfyui.build(options.folder)
    models = sorted({entry.model for entry in entries})
    print(f"{len(entries)} clips of {len(models)} models in {options.folder}:")
    for model in models:
        print(f"  {model}: {sum(entry.model == model for entry in entries)}")
    print(f"gate them: pytest benchmarks/ --vdb-videos={options.folder}")


if __name__ == "__main__":
    sys.exit(main())
