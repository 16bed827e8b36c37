"""Flags, ini options and markers that cannot mean anything: said before anything runs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from pytest_vdb import prompts, swept
from pytest_vdb.errors import BadSetting, nearest
from pytest_vdb.models import load_options
from pytest_vdb.options import Settings
from pytest_vdb.records import Kind

if TYPE_CHECKING:
    from pytest_vdb.session import VdbSession

OF_THE_BASE = ("base_setup", "budget", "ab_processes", "ab_steps")
"""Settings that mean nothing without a base; an ini file may have them for the runs with one."""


def of_run(session: VdbSession) -> None:
    """Raise for flags and ini options that cannot mean anything, before anything runs."""
    settings = session.settings
    # What is wrong with them is said here, and not in a test.
    _ = session.models, session.grid
    session.standards.validate()
    if session.cluster is not None:
        session.cluster.validate()
    elif settings.actors is not None:
        raise BadSetting("--vdb-actors is a limit of --vdb-cluster: add that")
    elif settings.scores_on_cluster:
        raise BadSetting(
            "--vdb-metric-device=cluster computes on the cluster of --vdb-cluster: add that, such "
            "as --vdb-cluster=local"
        )
    of_test(session, settings)
    swept.check(session)
    if settings.base is not None:
        from pytest_vdb.trial import base

        base.check(settings.base, session.config.rootpath)
    elif given := [name for name in OF_THE_BASE if name in session.layers.cli]:
        flag = f"--vdb-{given[0]}".replace("_", "-")
        raise BadSetting(f"{flag} is about the base's runs; name it with --vdb-against")
    if {"base", "update"} <= {*session.layers.cli}:
        raise BadSetting("--vdb-update stores this run and asks no base; leave --vdb-against out")
    if settings.serve and len(session.models) > 1:
        raise BadSetting("--vdb-serve starts one server; name one --vdb-model with it")
    if settings.serve:
        from pytest_vdb.measure.serve import read_command

        read_command(settings.serve)
    if settings.prove_min is not None and not settings.prove:
        raise BadSetting("--vdb-prove-min is a limit of --vdb-prove: add that")
    if settings.prove_generate and not settings.prove:
        raise BadSetting("--vdb-prove-generate adds faults to --vdb-prove: add that")
    if settings.prove and settings.update:
        raise BadSetting(
            "--vdb-prove tries the gate, and --vdb-update lifts it: run the one after the other"
        )
    if settings.durations is not None:
        from pytest_vdb.parallel.durations import Durations

        Durations.load(session.config)
    session.sharing.validate()
    if settings.keep and (settings.json is None or settings.shard is not None):
        raise BadSetting(
            "--vdb-keep keeps videos beside the results of a whole run: add --vdb-json=PATH, and "
            "leave out --vdb-shard"
        )
    if "update_mode" in session.layers.cli and not settings.update:
        raise BadSetting("--vdb-update-mode says how to update; add --vdb-update")
    if not hasattr(session.config, "workerinput"):
        from pytest_vdb.results import check_targets

        check_targets(session)


def of_test(session: VdbSession, settings: Settings) -> None:
    """Raise for a test's settings that cannot mean anything; nothing heavy is imported."""
    if session.cluster is not None:
        session.cluster.check(settings)
    if settings.prompts:
        prompts.load(settings.prompts, session.config.rootpath)
    load_options.split(settings.call)
    try:
        json.dumps(settings.call, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise BadSetting(
            f"a call argument (--vdb-set, or the marker's) must be plain finite JSON: {error}"
        ) from None
    if settings.tolerance:
        from pytest_vdb import performance
        from pytest_vdb.gate import auto

        kinds = {spec.name: spec.kind for spec in session.metrics}
        for name, chosen in settings.tolerance.items():
            if name not in kinds and not performance.known(name):
                known = {*performance.NAMES, "memory", *kinds}
                raise BadSetting(f"a tolerance for {name!r}: {nearest(name, known)}")
            if kinds.get(name) is Kind.DISTANCE:
                raise BadSetting(
                    f"a tolerance for {name!r}: a distance to the baseline's video convicts "
                    f"nobody; assert a floor instead, such as vdb.score({name!r}).min > 0.9"
                )
            if chosen.strip() == "auto":
                once = name != "memory" and name not in kinds and performance.is_once(name)
                auto.check(name, kinds.get(name), once=once)
