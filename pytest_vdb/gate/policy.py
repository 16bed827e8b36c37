"""Policy: how much worse a measurement may get, and what each state does to a test.

Light: the options are validated against it before anything heavy is imported.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from pytest_vdb.errors import BadSetting
from pytest_vdb.records import Kind, State, Verdict

_TOLERANCE = re.compile(r"\s*([0-9]*\.?[0-9]+(?:[eE][-+]?[0-9]+)?)\s*(%|abs)\s*")


@dataclass(frozen=True)
class Tolerance:
    """The largest change for the worse that is not a regression.

    ``value`` is a fraction of the baseline's mean where ``relative`` (0.05 is 5 %), else it is in
    the measurement's own unit. ``off`` turns the comparison off. ``auto``: what this machine tells
    apart, which `gate.auto` finds; ``why`` says what keeps it from that.
    """

    value: float = 0.0
    relative: bool = True
    off: bool = False
    auto: bool = False
    why: str = ""

    @classmethod
    def parse(cls, text: object) -> Tolerance:
        """Read ``"5%"``, ``"0.5abs"``, ``"auto"`` or ``"off"``; BadSetting for all else, bare
        numbers too."""
        if isinstance(text, str):
            if (word := text.strip()) in ("off", "auto"):
                return cls(off=word == "off", auto=word == "auto")
            match = _TOLERANCE.fullmatch(text)
            if match:
                number = float(match[1])
                if match[2] == "%":
                    if number >= 100:
                        raise BadSetting(
                            f"a tolerance of {text} lets everything pass; stay below 100%"
                        )
                    return cls(number / 100)
                if math.isfinite(number):
                    return cls(number, relative=False)
        hint = f", e.g. '{text}%' or '{text}abs'" if _is_number(text) else ""
        raise BadSetting(
            f"a tolerance says of what kind it is: '5%' of the baseline, '0.01abs' in the "
            f"measurement's unit, 'auto' or 'off'; got {text!r}{hint}"
        )

    @classmethod
    def read_back(cls, shown: str) -> Tolerance:
        """What was written as ``str`` of a tolerance: ``"auto 3.1%"`` as well."""
        return cls.parse(shown.removeprefix("auto "))

    def __str__(self) -> str:
        if self.off:
            return "off"
        if self.auto:
            return "auto" if self.why else f"auto {percent(self.value)}"
        return f"{self.value * 100:g}%" if self.relative else f"{self.value:g}abs"


def percent(share: float) -> str:
    """``3.1%``, ``14%``: a share in two digits, or in whole percent."""
    return f"{100 * share:.{'2g' if share < 0.0995 else '0f'}}%"


def _is_number(text: object) -> bool:
    try:
        float(str(text))
    except ValueError:
        return False
    return True


DEFAULTS: Mapping[str, str] = {
    "latency": "5%",
    # A shared CPU's wall clock has been seen to triple while its CPU time held still.
    "latency@cpu": "off",
    "latency.cpu": "25%",
    "latency.first": "off",  # once a run: no spread to judge it by
    "latency.compile": "off",
    "latency.queue": "off",  # the other clients', not the model's
    "throughput": "5%",
    "throughput@cpu": "off",
    "latency@beside": "5%",  # a base on the same machine at the same time has the same troubles
    "latency.cpu@beside": "5%",
    "load": "off",
    "memory": "1%",
    "memory@reported": "5%",  # an engine's or a server's own word
    "memory.reserved@reported": "5%",
    "memory.reserved": "off",  # the caching allocator's, not the model's
    "energy": "10%",
    "energy.per_second": "off",  # joules again, over a constant
    "energy.co2_per_second": "off",
    "energy.co2": "off",  # joules times a constant that an update of a table may change
    "energy@cpu": "off",  # a package's counter holds everything else that runs on it
    "score": "2%",
}
"""Default tolerances by measurement name, then family, then kind; ``@cpu`` where that device
differs. Figures and reasons are in docs/verdicts.md."""

OWN = frozenset(
    {
        *("latency.cpu", "latency.first", "latency.compile", "latency.queue"),
        *("energy.co2", "energy.per_second", "energy.co2_per_second"),
    }
)
"""Measurements that a tolerance chosen for their family says nothing about."""


def tolerance_for(
    name: str, kind: Kind, device: str, chosen: Mapping[str, str], *, beside: bool = False
) -> Tolerance:
    """What was chosen for measurement ``name`` or its family, or the default.

    ``beside`` says that a base can be run side by side.
    """
    family = name.split(".")[0]
    keys = (name,) if name in OWN else (name, family)
    for key in keys:
        if key in chosen:
            return Tolerance.parse(chosen[key])
    where = device.partition(":")[0]
    places = (*(("@beside",) if beside else ()), f"@{where}", "")
    for default in (*(key + place for key in keys for place in places), kind.value):
        if default in DEFAULTS:
            return Tolerance.parse(DEFAULTS[default])
    return Tolerance(off=True)


@dataclass(frozen=True)
class Consequences:
    """What each state does: ``"pass"``, ``"warn"``, ``"fail"`` or ``"error"``.

    ``gate``, ``missing`` and ``inconclusive`` are the flags' values (``inconclusive`` None: warn
    for quality, fail for all else); ``updating`` lifts what an update is there to mend.
    """

    gate: str = "fail"
    missing: str = "fail"
    inconclusive: str | None = None
    require: bool = False
    updating: bool = False

    def of(self, verdict: Verdict, kind: Kind) -> str:
        match verdict.state:
            case State.INFRA_ERROR:
                return "error"
            case State.NOT_APPLICABLE:
                return "fail" if self.require else "pass"
            case State.UNMEASURED:
                return "fail"
            case State.REGRESSION:
                return "warn" if self.updating or self.gate != "fail" else "fail"
            case State.NO_BASELINE:
                # --vdb-require is a demand for a comparison: a missing one cannot satisfy it.
                if self.updating or self.gate == "off":
                    return "warn"
                return "fail" if self.require else self.missing
            case State.INCONCLUSIVE:
                if self.updating or self.gate != "fail":
                    return "warn"
                quality = kind in (Kind.SCORE, Kind.DISTANCE)
                return self.inconclusive or ("warn" if quality else "fail")
            case _:
                return "pass"
