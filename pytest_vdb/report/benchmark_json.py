"""``--vdb-benchmark-json``: what took time, in the JSON of pytest-benchmark.

pytest-benchmark knows seconds alone, of which fewer are better, so scores, memory and energy are no
entries of their own: they are in ``extra_info`` of their test's times. What its ``benchmark``
fixture timed in the same run stands in the same file.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_vdb.baseline.store import write_atomically
from pytest_vdb.records import Json, Kind, ModelSpec
from pytest_vdb.units import plain

if TYPE_CHECKING:
    from pytest_vdb.report.writers import Context


def write(run: dict[str, Json], target: Path, context: Context) -> None:
    """Raises BaselineWriteError where ``target`` cannot be written."""
    from pytest_benchmark import utils

    dumps: Callable[..., str] = utils.safe_dumps  # also of what a test puts into extra_info
    write_atomically(target, dumps(document(run, context), indent=1) + "\n")


def document(run: Mapping[str, Json], context: Context) -> dict[str, Any]:
    """The file as an object: ``vdb`` first, then what pytest-benchmark writes."""
    recorded = _recorded(run, context)
    recorded["benchmarks"] += [entry for test in run["tests"] for entry in _of_test(test)]
    return {"vdb": {"schema": run["schema"], "exit": run["exit"]}, **recorded}


def _recorded(run: Mapping[str, Json], context: Context) -> dict[str, Any]:
    """What the ``benchmark`` fixture timed in this process, in the words of its own hooks.

    Where it timed nothing, the machine and the commit are the run's: this may be another machine.
    """
    from pytest_benchmark import __version__

    session = getattr(context.session and context.session.config, "_benchmarksession", None)
    timed = [one for one in session.benchmarks if one] if session else []
    if session and timed:
        hook, config = session.config.hook, session.config
        made: dict[str, Any] = hook.pytest_benchmark_generate_json(
            config=config,
            benchmarks=timed,
            include_data=True,
            machine_info=session.get_machine_info(),
            commit_info=hook.pytest_benchmark_generate_commit_info(config=config),
        )
        for entry in made["benchmarks"]:
            entry["params"] = entry["params"] and _named(entry["params"])
        return made
    commit = str(run.get("commit") or "unversioned")
    return {
        "machine_info": dict(run["environment"].get("facts", {})),
        "commit_info": {"id": commit.removesuffix("+"), "dirty": commit.endswith("+")},
        "benchmarks": [],
        "datetime": datetime.now(UTC).isoformat(),
        "version": __version__,
    }


def _named(params: Mapping[str, Any]) -> dict[str, Any]:
    """Models by their names: a server's command may hold a key."""
    return {
        key: value.name if isinstance(value, ModelSpec) else value for key, value in params.items()
    }


def _of_test(test: Mapping[str, Json]) -> Iterator[dict[str, Any]]:
    times = [m for m in test["measurements"] if _is_time(m)]
    if not times:
        return
    said = {
        "model": plain(test["model"]["name"]) if test["model"] else None,
        "workload": test["workload"]["hash"] if test["workload"] else None,
        "outcome": test["outcome"],
        "measurements": {plain(m["name"]): _short(m) for m in test["measurements"]},
    }
    for measurement in times:
        yield _entry(test, measurement, said)


def _is_time(m: Mapping[str, Json]) -> bool:
    return m["kind"] == Kind.LATENCY and m["unit"] == "s" and bool(m["samples"])


def _short(m: Mapping[str, Json]) -> dict[str, Json]:
    """A measurement of the same test in a line."""
    return {
        "unit": m["unit"],
        "direction": m["direction"],
        **m["statistics"],
        "n": len(m["samples"]),
        "state": m["verdict"]["state"],
    }


def _entry(
    test: Mapping[str, Json], measurement: Mapping[str, Json], said: Mapping[str, Any]
) -> dict[str, Any]:
    """One series as pytest-benchmark has the rounds of one function.

    Its name is the test's with the measurement's before the parameters, so that a run's entries
    differ and ``--group-by=func`` keeps measurements apart.
    """
    from pytest_benchmark import stats

    series: Callable[[], Any] = stats.Stats
    statistics = series()
    for sample in measurement["samples"]:
        statistics.update(float(sample["value"]))
    what = plain(measurement["name"])
    place, _, name = plain(test["nodeid"]).rpartition("::")
    match = re.fullmatch(r"([^\[]*)(?:\[(.*)\])?", name)
    function, param = match.groups() if match else (name, None)
    name = f"{function}.{what}" + ("" if param is None else f"[{param}]")
    return {
        "group": what,
        "name": name,
        "fullname": f"{place}::{name}" if place else name,
        "params": None if param is None else {"vdb_model": said["model"]},
        "param": param,
        "extra_info": {**said, "how": plain(measurement["provenance"]["how"])},
        "options": {},
        "stats": {**statistics.as_dict(), "data": statistics.data, "iterations": 1},
    }
