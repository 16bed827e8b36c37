"""Wires sweeps into a run: which points a test has, what each is told to be, what is refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from pytest_vdb import marker
from pytest_vdb.errors import BadSetting, nearest
from pytest_vdb.models.load_options import LOAD_OPTIONS
from pytest_vdb.names import digest
from pytest_vdb.records import (
    FRAME_COUNTS,
    Json,
    Kind,
    Measurement,
    Missing,
    ModelSpec,
    State,
    Verdict,
)
from pytest_vdb.sweeps import limits
from pytest_vdb.sweeps.points import NOT_SWEPT, Sweep, by_marks

if TYPE_CHECKING:
    from pytest_vdb.options import Settings
    from pytest_vdb.session import VdbSession
    from pytest_vdb.view import Vdb

EXPLORES = "a point of --vdb-sweep, which explores: it is compared with no baseline"


def check(session: VdbSession) -> None:
    """Raise BadSetting for flags of a sweep that cannot mean anything."""
    settings, cli = session.settings, session.layers.cli
    if settings.recommend is not None:
        _check_limits(session, settings.recommend)
    if not settings.sweep:
        if "sweep_mode" in cli:
            raise BadSetting("--vdb-sweep-mode says how --vdb-sweep varies: add that")
        return
    for name, flag in (("update", "update"), ("base", "against"), ("prove", "prove")):
        if getattr(settings, name):
            raise BadSetting(
                f"--vdb-sweep explores and compares with no baseline, so --vdb-{flag} has no part "
                "in it: leave one of them out, or make the points part of the suite by "
                "@pytest.mark.vdb_sweep(...)"
            )
    Sweep(settings.sweep, settings.sweep_mode).points()
    _refuse_both(settings.sweep, session)
    for name in settings.sweep:
        if name in NOT_SWEPT:
            raise BadSetting(
                f"--vdb-sweep={name}=...: every point has the test's own {name}, of "
                f"@pytest.mark.vdb({name}=...)"
            )
    _refuse_twice(session.config.getoption("vdb_sweep") or [])


def _refuse_twice(texts: Sequence[str]) -> None:
    """Of two flags of one argument the last would hold, and the other's values be lost."""
    keys = [text.partition("=")[0].strip() for text in texts]
    if twice := [key for key in keys if keys.count(key) > 1]:
        raise BadSetting(
            f"--vdb-sweep={twice[0]}=... is given twice: name all its values in one, as in "
            f"--vdb-sweep={twice[0]}=V1,V2,V3"
        )


def _check_limits(session: VdbSession, text: str) -> None:
    from pytest_vdb import performance

    try:
        found = limits.parse(text)
    except BadSetting as error:
        raise BadSetting(f"--vdb-recommend: {error}") from None
    kinds = {spec.name: spec.kind for spec in session.metrics}
    for limit in found:
        if kinds.get(limit.name) is Kind.DISTANCE:
            raise BadSetting(
                f"--vdb-recommend={limit.text}: a distance to a baseline's video says nothing of "
                "points, which have no such video in common: name a score"
            )
        group = limit.name == "memory"  # of tolerances, and no measurement
        if limit.name not in kinds and (group or not performance.known(limit.name)):
            known = {*performance.NAMES, *kinds}
            raise BadSetting(f"--vdb-recommend={limit.text}: {nearest(limit.name, known)}")
        if limit.odd:
            raise BadSetting(f"--vdb-recommend={limit.odd}")


def _refuse_both(factors: Mapping[str, Any], session: VdbSession) -> None:
    if both := [name for name in factors if name in session.layers.cli.get("call", {})]:
        raise BadSetting(
            f"{both[0]} is swept and set by --vdb-set, which would make all points one: leave "
            f"out --vdb-set={both[0]}=..."
        )


def parametrize(metafunc: pytest.Metafunc, session: VdbSession) -> None:
    """Run the test once a model, and once a point where it is swept. Raises BadSetting."""
    layers = marker.layers(metafunc.definition)
    sweep = _of(metafunc, session)
    if sweep is None:
        settings = session.layers.resolve(layers)
        for spec in session.models:
            session.loaded_as(spec, settings)
        ids = [spec.slug for spec in session.models]
        metafunc.parametrize("vdb_model", session.models, ids=ids, indirect=True, scope="session")
        return
    _refuse_both(sweep.factors, session)
    rows = [row for spec in session.models for row in _rows(spec, sweep, layers, session)]
    metafunc.parametrize(("vdb_model", marker.POINT), rows, indirect=True, scope="session")


def _of(metafunc: pytest.Metafunc, session: VdbSession) -> Sweep | None:
    """The command line's sweep, or the markers', or the ini file's."""
    marks = [*metafunc.definition.iter_markers("vdb_sweep")]
    by_marker = by_marks(reversed(marks))
    if marker.POINT not in metafunc.fixturenames:
        return None
    settings = session.settings
    if "sweep" in session.layers.cli or (settings.sweep and by_marker is None):
        return Sweep(settings.sweep, settings.sweep_mode, explores=True)
    return by_marker


def _rows(
    spec: ModelSpec, sweep: Sweep, layers: list[dict[str, Any]], session: VdbSession
) -> list[Any]:
    """A parameter a point, as a layer of settings; what asks for the same videos is left out."""
    if spec.source == "recorded":
        raise BadSetting(f"{spec.name} is recorded videos, in which no argument changes anything")
    rows: list[Any] = []
    seen: set[str] = set()
    for point in sweep.points():
        said = {
            "id": point.id,
            "mode": sweep.mode,
            "explores": sweep.explores,
            "factors": [*sweep.factors],
        }
        layer = {"call": dict(point.call), "swept": {**said, "place": len(rows)}}
        settings = session.layers.resolve([*layers, layer])
        loaded = session.loaded_as(spec, settings)
        asked = session.workload(loaded, replace(settings, prompts=("any",))).hash
        if asked not in seen:
            seen.add(asked)
            rows.append(pytest.param(spec, layer, id=f"{spec.slug}-{point.id}"))
    return rows


def verdict(m: Measurement) -> Verdict:
    """What a measurement is that explores: taken, and held to nothing."""
    if m.missing is Missing.UNMEASURED:
        return Verdict(State.UNMEASURED, m.reason)
    why = m.reason if m.missing is Missing.NOT_APPLICABLE else EXPLORES
    return Verdict(State.NOT_APPLICABLE, why, n=len(m.values))


def told(vdb: Vdb, settings: Settings) -> dict[str, Json]:
    """``sweep`` of a test in docs/json.md: its point, and what all points of it have alike."""
    if not settings.swept:
        return {}
    asked = vdb.workload.portable.to_json()
    both = {**asked["options"], **asked["call"]}
    own = {name: _own(name, both) for name in settings.swept["factors"]}
    varied = {*own.values()}
    alike = {
        **asked,
        **{
            kind: {name: value for name, value in asked[kind].items() if name not in varied}
            for kind in ("call", "options")
        },
        "sweep": {name: settings.swept[name] for name in ("mode", "explores", "factors")},
    }
    setting = {name: both.get(one) for name, one in own.items()}
    return {"sweep": {**settings.swept, "setting": setting, "alike": digest(alike)[:16]}}


def _own(name: str, asked: Mapping[str, Json]) -> str:
    """What the model calls this argument."""
    if name != "num_frames" or name in LOAD_OPTIONS:
        return name
    return next((one for one in FRAME_COUNTS if one in asked), name)
