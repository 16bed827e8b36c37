"""The ``vdb`` command: what is known, scores of videos, and the upkeep of baselines."""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_vdb import (
    accept_command,
    baseline_command,
    bundle_command,
    calibrate_command,
    doctor_command,
    history_command,
    merge_command,
    push_command,
    report_command,
    score_command,
)
from pytest_vdb.errors import BadSetting, VdbError

if TYPE_CHECKING:
    from pytest_vdb.models.listing import Device


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one subcommand; a user's mistake is one line on stderr and exit code 2."""
    parser = _parser()
    options, rest = parser.parse_known_args(arguments)
    if rest and not getattr(options, "under_pytest", False):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    options.pytest = rest
    try:
        code: int = options.run(options) or 0
        sys.stdout.flush()
    except VdbError as error:
        print(f"vdb: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # who reads has read enough, as `head` has
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("vdb", description="video-diffusion benchmarks (pytest-vdb)")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    models = commands.add_parser(
        "models", help="list the models that --vdb-model knows and what this machine could run"
    )
    models.add_argument("name", nargs="?", help="show one in full: anything --vdb-model takes")
    models.add_argument("--json", action="store_true", help="write JSON")
    models.set_defaults(run=_models)
    metrics = commands.add_parser(
        "metrics", help="list the metrics that vdb.score() knows and what this machine can compute"
    )
    metrics.add_argument("name", nargs="?", help="show one in full, with how to get its weights")
    metrics.add_argument("--weights", type=Path, metavar="DIR", help="as --vdb-metric-weights")
    metrics.add_argument("--json", action="store_true", help="write JSON")
    metrics.set_defaults(run=_metrics)
    score = commands.add_parser("score", help="score videos: files, or a folder of them")
    score_command.arguments(score)
    score.set_defaults(run=_score)
    accept = commands.add_parser(
        "accept",
        help="let a reviewed regression or a measurement without a baseline stand",
        allow_abbrev=False,
    )
    accept_command.arguments(accept)
    accept.set_defaults(run=accept_command.accept, under_pytest=True)
    bridge = commands.add_parser(
        "bridge",
        help="open a new stack's baselines by one acceptance, paired with the old stack",
        allow_abbrev=False,
    )
    accept_command.bridge_arguments(bridge)
    bridge.set_defaults(run=accept_command.bridge, under_pytest=True)
    merge = commands.add_parser(
        "merge", help="make one run of the records of --vdb-shard", allow_abbrev=False
    )
    merge_command.arguments(merge)
    merge.set_defaults(run=merge_command.run, under_pytest=True)
    report = commands.add_parser("report", help="make the reports of a kept run again")
    report_command.arguments(report)
    report.set_defaults(run=report_command.run)
    bundle = commands.add_parser("bundle", help="make an archive of a run and what it was made of")
    bundle_command.arguments(bundle)
    bundle.set_defaults(run=bundle_command.bundle)
    verify = commands.add_parser(
        "verify", help="check such an archive, and run it again", allow_abbrev=False
    )
    bundle_command.verify_arguments(verify)
    verify.set_defaults(run=bundle_command.verify, under_pytest=True)
    history = commands.add_parser(
        "history", help="list a model's measurements over stored sessions, and where they changed"
    )
    history_command.arguments(history)
    history.set_defaults(run=history_command.run)
    diff = commands.add_parser("diff", help="compare two runs, baseline files or folders")
    baseline_command.diff_arguments(diff)
    diff.set_defaults(run=baseline_command.diff)
    prune = commands.add_parser("prune", help="remove what no baseline needs any more")
    baseline_command.prune_arguments(prune)
    prune.set_defaults(run=baseline_command.prune)
    push = commands.add_parser("push", help="bring a baseline's media to a remote store")
    push_command.arguments(push)
    push.set_defaults(run=push_command.run)
    calibrate = commands.add_parser(
        "calibrate",
        help="measure how noisy this machine is, and store it for the gate",
        allow_abbrev=False,
    )
    calibrate_command.arguments(calibrate)
    calibrate.set_defaults(run=calibrate_command.run, under_pytest=True)
    doctor = commands.add_parser(
        "doctor", help="say what the gate cannot tell with what is stored", allow_abbrev=False
    )
    doctor_command.arguments(doctor)
    doctor.set_defaults(run=doctor_command.run, under_pytest=True)
    prompts = commands.add_parser("prompts", help="list the prompt suites that tests may name")
    prompts.set_defaults(run=_prompts)
    videos = commands.add_parser(
        "videos",
        help="build a folder for --vdb-videos from real generated clips (pytest-vdb[videos])",
    )
    videos.add_argument("folder", type=Path, help="where to put clips and prompts.jsonl")
    videos.set_defaults(run=_videos)
    return parser


def _models(options: argparse.Namespace) -> None:
    from pytest_vdb.models import listing
    from pytest_vdb.models.registry import Registry, gather

    registry = Registry(gather(_hooks().pytest_vdb_models()))
    names = registry.names() if options.name is None else (options.name,)
    specs = [registry.find(name) for name in names]
    devices = _devices()
    if options.json:
        print(json.dumps(listing.as_json(specs, devices), indent=2))
    elif options.name is None:
        print(listing.table(specs, devices))
    else:
        print(listing.details(specs[0], devices))


def _hooks() -> Any:
    """Hooks of the installed pytest plugins that depend on this package; no other is imported.

    Raises BadSetting for one that cannot be imported. Hooks in ``conftest.py`` are pytest's alone.
    """
    from importlib.metadata import entry_points

    import pytest

    from pytest_vdb import hookspecs

    manager = pytest.PytestPluginManager()
    manager.add_hookspecs(hookspecs)
    for entry in entry_points(group="pytest11"):
        needs = (entry.dist and entry.dist.requires) or []
        if entry.module == "pytest_vdb.plugin":
            continue
        if not any(re.match(r"pytest[-_.]vdb(?![\w.-])", need, re.IGNORECASE) for need in needs):
            continue
        try:
            manager.register(entry.load(), entry.name)
        except Exception as error:
            raise BadSetting(f"pytest plugin {entry.value} cannot be loaded: {error}") from error
    return manager.hook


def _devices() -> list[Device]:
    """The GPUs that this process may use; empty without a driver."""
    from pytest_vdb.models.listing import Device
    from pytest_vdb.parallel.lease import nvml_session, visible_devices

    with nvml_session() as nvml:
        handles = [nvml.nvmlDeviceGetHandleByUUID(uuid) for uuid in visible_devices()]
        return [
            Device(str(nvml.nvmlDeviceGetName(h)), int(nvml.nvmlDeviceGetMemoryInfo(h).total))
            for h in handles
        ]


def _metrics(options: argparse.Namespace) -> None:
    from pytest_vdb.metrics import listing
    from pytest_vdb.metrics.registry import Metrics, gather

    known = Metrics(gather(_hooks().pytest_vdb_metrics()))
    specs = list(known) if options.name is None else [known.find(options.name)]
    if options.json:
        print(json.dumps(listing.as_json(specs, options.weights), indent=2))
    elif options.name is None:
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else 0
        print(listing.table(specs, options.weights, width))
    else:
        print(listing.details(specs[0], options.weights))


def _score(options: argparse.Namespace) -> int:
    from pytest_vdb.metrics.registry import gather

    return score_command.run(options, gather(_hooks().pytest_vdb_metrics()))


def _prompts(_: argparse.Namespace) -> None:
    from pytest_vdb.prompts import describe

    for suite in describe():
        size = "not installed" if suite.n is None else f"{suite.n} prompts"
        known = f"version {suite.version}, sha256 {suite.sha256[:12]}" if suite.sha256 else ""
        print(f"{suite.name:9} {size:13} {suite.summary}")
        for line in (known, f"tags: {', '.join(suite.axes)}" if suite.axes else ""):
            if line:
                print(f"{'':23} {line}")


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
