"""``vdb merge``: the shards of one run become that run, which owns verdict, reports and updates."""

from __future__ import annotations

import argparse
import io
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_vdb import under_pytest
from pytest_vdb.baseline.shard import ENDED, FAILED, ShardRun, gather_media, read, together
from pytest_vdb.errors import BadRun, BadSetting
from pytest_vdb.records import Json
from pytest_vdb.report import again
from pytest_vdb.results import Results
from pytest_vdb.units import plain

if TYPE_CHECKING:
    from pytest_vdb.session import VdbSession

APPLIED = ("update", "update_mode", "sessions", "honour_accepted", "prove", "prove_min")
"""Settings of the shards that the merged run acts by."""
WORDS = ("failed", "passed", "skipped", "xfailed", "xpassed", "error")
"""Pytest's counts, in its order."""


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "records", nargs="+", type=Path, metavar="SHARD.json", help="every shard's record"
    )
    parser.add_argument(
        "--json", metavar="OUT", help="write the merged results, as --vdb-json of one run"
    )
    parser.epilog = "Everything else goes to pytest: --vdb-baselines, --vdb-durations, --rootdir"


def run(options: argparse.Namespace) -> int:
    """The exit code of the whole run. Raises BadRun, BadSetting."""
    shards = together([read(path) for path in options.records])
    flags = [f"--vdb-json={options.json}"] if options.json else []
    return under_pytest.told(
        [*options.pytest, *flags], lambda session: _merge(shards, _as_they_ran(session, shards[0]))
    )


def _as_they_ran(session: VdbSession, shard: ShardRun) -> VdbSession:
    """``session`` under the settings that the shards had, and no shard itself."""
    policy = shard.shard["policy"]
    cli = {key: value for key, value in session.layers.cli.items() if key != "shard"}
    ini = {key: value for key, value in session.layers.ini.items() if key != "shard"}
    said = {name: policy[name] for name in (*APPLIED, "run_source")}
    session.layers = replace(session.layers, cli={**cli, **said}, ini=ini)
    session.settings = session.layers.session()
    if policy["update"]:
        session.standards.validate()
    return session


def _merge(shards: Sequence[ShardRun], session: VdbSession) -> int:
    out = session.settings.json
    if out is not None:
        target = (session.config.invocation_params.dir / out).resolve()
        if target in [one.path.resolve() for one in shards]:
            raise BadSetting(f"vdb merge: {out} is one of the shards: name another file")
    results = Results(session)
    _fill(results, shards)
    _page(results, shards, session)  # whatever cannot be shown is found before anything is written
    for shard in shards:
        gather_media(shard, session.scratch / "blobs")
    if session.settings.update:
        _keep_durations(results, shards, session)
    if "html" in results.reports:
        _take_videos(results, shards)
    code = exit_code(shard.run["exit"] for shard in shards)
    fine = results.finish(code)
    print(_page(results, shards, session), end="")
    for line in results.annotations():
        print(line)
    return code or int(not fine)


def exit_code(codes: Iterable[int]) -> int:
    """Pytest's for all together: what broke a session first, then what failed in one.

    Failures of the infrastructure alone (10) beside others (1) are 1, and shards without a test (5)
    beside others are nothing.
    """
    found = {*codes}
    if broken := found - ENDED:
        return max(broken)
    return next(code for code in (1, 10, 0, 5) if code in found)


def _fill(results: Results, shards: Sequence[ShardRun]) -> None:
    """Everything that the shards gathered, in the order in which one process has it."""
    first = shards[0]
    place = {nodeid: number for number, nodeid in enumerate(first.shard["selected"])}
    tests = [test for shard in shards for test in shard.run["tests"]]
    seconds: Counter[str] = Counter()
    for shard in shards:
        seconds.update(shard.run["timing"])
        results.trouble += [f"{line} (shard {shard.index})" for line in shard.shard["trouble"]]
        results.notes += [f"{line} (shard {shard.index})" for line in shard.shard["notes"]]
        if stopped := [one for one in shard.shard["tests"] if one not in shard.shard["results"]]:
            results.trouble.append(
                f"{shard} stopped before it had run {len(stopped)} of its tests, such as "
                f"{stopped[0]}"
            )
    environment, differ = _environment([shard.run["environment"] for shard in shards])
    if differ:
        results.notes.append(
            f"the shards ran on machines that differ ({', '.join(differ)}): latency and memory are "
            "compared with what is stored for each"
        )
    results.take(
        tests=sorted(tests, key=lambda test: place[test["nodeid"]]),
        updates=[update for shard in shards for update in shard.shard["updates"]],
        environment=environment,
        seconds=dict(seconds),
        edits=first.run["gate_edits"],
        started=min(datetime.fromisoformat(shard.shard["started"]) for shard in shards),
        commit=first.run["commit"],
        flags=[*again.flags(first.run.get("flags", ()))],
        gpu_seconds=sum(shard.run.get("gpu_seconds") or 0.0 for shard in shards),
    )


def _take_videos(results: Results, shards: Sequence[ShardRun]) -> None:
    """What the shards left for the page, beside their records."""
    from pytest_vdb.report import kept

    results.no_videos = (
        "nobody left this test's videos: give the shards --vdb-html too, and bring the folder "
        "vdb-shard-I-of-N.films along with each record"
    )
    for shard in shards:
        if kept.part(shard.path).is_dir():
            try:
                results.shown |= kept.of_pages(shard.run["tests"], [kept.part(shard.path)])
            except BadRun as error:
                results.trouble.append(str(error))


def _environment(found: Sequence[Mapping[str, Json]]) -> tuple[dict[str, Json], list[str]]:
    """What the shards ran on, values that differ side by side; and which of an identity do."""
    together: dict[str, dict[str, dict[str, None]]] = {"facts": {}}
    for environment in found:
        for name, facts in environment.items():
            for key, value in facts.items():
                together.setdefault(name, {}).setdefault(key, {})[value] = None
    differ = [
        key
        for name, facts in together.items()
        for key, values in facts.items()
        if name != "facts" and len(values) > 1
    ]
    merged = {
        name: {key: " | ".join(values) for key, values in facts.items()}
        for name, facts in together.items()
    }
    return merged, [*dict.fromkeys(differ)]


def _keep_durations(results: Results, shards: Sequence[ShardRun], session: VdbSession) -> None:
    """As a run of all tests stores them: in the file of ``--vdb-durations``, where one is named."""
    from pytest_vdb.parallel.durations import Durations

    stored = Durations.load(session.config)
    if stored.path is None:
        return
    for shard in shards:
        for nodeid, took in shard.shard["results"].items():
            if not FAILED & {*took["outcomes"]} or stored.of(nodeid) is None:
                stored.add(nodeid, took["seconds"], took["pipeline"], took["load"])
    try:
        stored.save()
    except OSError as error:
        results.trouble.append(f"durations were not stored: {error}")


# ------------------------------------------------------------------------- the page


def _page(results: Results, shards: Sequence[ShardRun], session: VdbSession) -> str:
    """The end of pytest's output, as one run of all tests would have it. Raises BadRun."""
    from _pytest.terminal import TerminalReporter

    from pytest_vdb.report import terminal

    out = io.StringIO()
    reporter = TerminalReporter(session.config, out)
    try:
        terminal.write(reporter, results)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise BadRun(f"the shards hold what no run of ours writes ({error!r})") from None
    _summary(reporter, shards)
    return out.getvalue()


def _summary(reporter: Any, shards: Sequence[ShardRun]) -> None:
    ran = {nodeid: one for shard in shards for nodeid, one in shard.shard["results"].items()}
    failed = [
        f"{outcome.upper()} {nodeid}" + (f" - {one['why']}" if one["why"] else "")
        for nodeid, one in ran.items()
        for outcome in dict.fromkeys(one["outcomes"])
        if outcome in FAILED
    ]
    if failed:
        reporter.section("short test summary info")
        for line in failed:
            reporter.line(plain(line))
    counts = Counter(outcome for one in ran.values() for outcome in one["outcomes"])
    named = [word for word in (*WORDS, *sorted(counts.keys() - {*WORDS})) if counts[word]]
    told = ", ".join(f"{counts[word]} {plain(word)}" for word in named) or "no tests ran"
    bad = counts["failed"] + counts["error"] > 0
    longest = max(sum(one["seconds"] for one in s.shard["results"].values()) for s in shards)
    reporter.section(
        f"{told} in {len(shards)} shards, the longest {longest:.2f}s", red=bad, green=not bad
    )
