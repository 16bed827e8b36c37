"""``@pytest.mark.vdb(...)``: its arguments, checked, as a layer of settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from pytest_vdb.errors import BadSetting, nearest
from pytest_vdb.models.load_options import LOAD_OPTIONS
from pytest_vdb.readers import choice, count, duration

CALL_ARGUMENTS = (
    "num_frames",
    "height",
    "width",
    "num_inference_steps",
    "guidance_scale",
    "negative_prompt",
    "max_sequence_length",
    "frame_rate",
)
"""Marker arguments that are handed to the pipeline under the same name; others go in ``call``.

Load options (``models.load_options``) may stand beside them.
"""

POINT = "_vdb_point"
"""The parameter that holds a test's point of a sweep, as a layer of settings."""


def _prompts(value: Any) -> Any:
    if isinstance(value, str):
        return value
    if isinstance(value, list | tuple) and value and all(isinstance(v, str) for v in value):
        return tuple(value)
    raise BadSetting(f"prompts is a suite's name, a file or a list of texts, not {value!r}")


def _seeds(value: Any) -> tuple[int, ...]:
    if isinstance(value, list | tuple | range) and len(value):
        seeds = tuple(value)
        if all(type(s) is int and s >= 0 for s in seeds) and len(set(seeds)) == len(seeds):
            return seeds
    raise BadSetting(f"seeds is a list of different whole numbers from 0, not {value!r}")


def _tolerances(value: Any) -> dict[str, str]:
    from pytest_vdb.gate.policy import Tolerance

    if not isinstance(value, dict):
        raise BadSetting(f"tolerance is a dict such as {{'latency': '5%'}}, not {value!r}")
    for name, one in value.items():
        try:
            Tolerance.parse(one)
        except BadSetting as error:
            raise BadSetting(f"{name}: {error}") from None
    return dict(value)


def _call(value: Any) -> dict[str, Any]:
    if isinstance(value, dict) and all(isinstance(k, str) for k in value):
        return dict(value)
    raise BadSetting(f"call is a dict of pipeline arguments, not {value!r}")


def _allow(value: Any) -> tuple[str, ...]:
    known = ("black", "blank", "frozen")
    names = (value,) if isinstance(value, str) else value
    if not isinstance(names, list | tuple):
        raise BadSetting(f"allow is a list of faults ({', '.join(known)}), not {value!r}")
    for name in names:
        if name not in known:
            raise BadSetting(f"allow={name!r}: {nearest(name, known)}")
    return tuple(names)


_MARKER_ARGUMENTS: Mapping[str, Any] = {
    "prompts": _prompts,
    "seeds": _seeds,
    "num_seeds": count,
    "tolerance": _tolerances,
    "timeout": duration,
    "call": _call,
    "allow": _allow,
    "runner": choice("auto", "inprocess", "child"),
    "missing": choice("fail", "warn"),
    "inconclusive": choice("fail", "warn"),
}


def layers(node: pytest.Item | pytest.Collector) -> list[dict[str, Any]]:
    """The markers of a test as layers of settings, farthest (module) first. Raises BadSetting.

    A point of a sweep comes last.
    """
    found = [marker_layer(mark) for mark in reversed(list(node.iter_markers("vdb")))]
    point = getattr(getattr(node, "callspec", None), "params", {}).get(POINT) or {}
    # A test could name this parameter itself: no policy comes in by it.
    return [*found, {name: point.get(name, {}) for name in ("call", "swept")}]


def marker_layer(mark: pytest.Mark) -> dict[str, Any]:
    """One ``@pytest.mark.vdb(...)`` as a layer of settings.

    Raises BadSetting for positional, unknown or meaningless arguments.
    """
    if mark.args:
        raise BadSetting(f"@pytest.mark.vdb takes keyword arguments only, not {mark.args[0]!r}")
    layer: dict[str, Any] = {}
    call: dict[str, Any] = {}
    for name, value in mark.kwargs.items():
        if name in CALL_ARGUMENTS or name in LOAD_OPTIONS:
            call[name] = value
            continue
        if name not in _MARKER_ARGUMENTS:
            known = (*_MARKER_ARGUMENTS, *CALL_ARGUMENTS, *LOAD_OPTIONS)
            raise BadSetting(
                f"@pytest.mark.vdb has no argument {name!r}: {nearest(name, known)} "
                f"(another pipeline argument goes in call={{...}})"
            )
        try:
            layer[name] = _MARKER_ARGUMENTS[name](value)
        except BadSetting as error:
            raise BadSetting(f"@pytest.mark.vdb({name}=...): {error}") from None
    if "num_seeds" in layer:
        if "seeds" in layer:
            raise BadSetting("@pytest.mark.vdb takes seeds or num_seeds, not both")
        layer["seeds"] = tuple(range(layer.pop("num_seeds")))
    layer["call"] = {**call, **layer.get("call", {})}
    return layer


def pipeline_key(item: pytest.Item) -> str:
    """What a test loads: its model and the load options of its markers. Empty for other tests."""
    model = getattr(getattr(item, "callspec", None), "params", {}).get("vdb_model")
    if model is None:
        return ""
    merged = {key: value for layer in layers(item) for key, value in layer["call"].items()}
    options = {key: value for key, value in merged.items() if key in LOAD_OPTIONS}
    return repr((model.slug, sorted(options.items())))


def by_pipeline(items: list[pytest.Item]) -> list[pytest.Item]:
    """Vdb tests that load the same one after the other, in the places that vdb tests had."""
    keys = [pipeline_key(item) for item in items]
    first = {key: i for i, key in reversed(list(enumerate(keys)))}
    places = [i for i, key in enumerate(keys) if key]
    ordered = items[:]
    for place, source in zip(places, sorted(places, key=lambda i: first[keys[i]]), strict=True):
        ordered[place] = items[source]
    return ordered
