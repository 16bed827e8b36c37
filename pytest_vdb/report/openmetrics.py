"""``--vdb-openmetrics``: a run as text that Prometheus reads.

OpenMetrics 1.0 (https://prometheus.io/docs/specs/om/open_metrics_spec/), of gauges alone and
without timestamps: so it is also text of Prometheus' older format, which the node exporter's
textfile collector and the Pushgateway take.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_vdb.baseline.store import write_atomically
from pytest_vdb.records import Json
from pytest_vdb.units import plain

if TYPE_CHECKING:
    from pytest_vdb.report.writers import Context

UNITS = {"s": "seconds", "B": "bytes", "J": "joules", "g": "grams"}
"""Units of ours that Prometheus has a word for."""

Labels = tuple[tuple[str, str], ...]


class Family:
    """Values of one name by their labels; ``unit`` ends the name where there is one."""

    def __init__(self, name: str, text: str, unit: str = "") -> None:
        self.name = f"{name}_{unit}" if unit else name
        self.unit = unit
        self.text = text
        self.values: dict[Labels, float] = {}

    def add(self, value: float, **labels: str | None) -> None:
        """The first value of the same labels stays: a second one makes the text invalid."""
        shown = tuple((name, plain(str(said))) for name, said in labels.items() if said is not None)
        if math.isfinite(value):
            self.values.setdefault(shown, float(value))

    def lines(self) -> Iterator[str]:
        if not self.values:
            return
        yield f"# TYPE {self.name} gauge"
        if self.unit:
            yield f"# UNIT {self.name} {self.unit}"
        yield f"# HELP {self.name} {self.text}"
        for labels, value in self.values.items():
            told = ",".join(f'{name}="{_escaped(said)}"' for name, said in labels)
            yield f"{self.name}{{{told}}} {value!r}" if told else f"{self.name} {value!r}"


def write(run: dict[str, Json], target: Path, context: Context) -> None:
    """Raises BaselineWriteError where ``target`` cannot be written."""
    write_atomically(target, text(run))


def text(run: Mapping[str, Json]) -> str:
    """The run (docs/json.md), up to and with ``# EOF``."""
    families = [*_of_run(run), *_of_tests(run)]
    return "\n".join([line for family in families for line in family.lines()] + ["# EOF\n"])


def _of_run(run: Mapping[str, Json]) -> list[Family]:
    code = Family("vdb_run_exit_code", "pytest's exit code of the run, 10 where the machine failed")
    code.add(run["exit"])
    about = Family("vdb_run", "what ran, 1")
    facts = run["environment"].get("facts", {})
    about.add(1, commit=run.get("commit") or "", device=facts.get("device", ""))
    spent = Family("vdb_run_phase", "seconds of the run by phase, over all workers", "seconds")
    for phase, seconds in run["timing"].items():
        spent.add(seconds, phase=phase)
    return [code, about, spent]


def _of_tests(run: Mapping[str, Json]) -> list[Family]:
    outcomes = Family("vdb_test", "how a test ended, 1")
    failed = Family("vdb_measurement_failed", "1 where the measurement fails its test, else 0")
    states = Family("vdb_measurement_verdict", "what the gate says of a measurement, 1")
    changes = Family("vdb_measurement_change", "change as a share of the baseline", "ratio")
    low = Family("vdb_measurement_change_low", "low end of its 95 % interval", "ratio")
    high = Family("vdb_measurement_change_high", "high end of its 95 % interval", "ratio")
    counts = Family("vdb_measurement_samples", "how many values were measured")
    values: dict[str, Family] = {}
    for test in run["tests"]:
        who = {"test": test["nodeid"], "model": test["model"]["name"] if test["model"] else None}
        outcomes.add(1, **who, outcome=test["outcome"])
        for m in test["measurements"]:
            verdict, labels = m["verdict"], {**who, "measurement": m["name"]}
            failed.add(verdict["consequence"] in ("fail", "error"), **labels)
            states.add(1, **labels, state=verdict["state"], consequence=verdict["consequence"])
            counts.add(len(m["samples"]), **labels)
            _values(m, labels, values)
            if verdict["effect"] is not None and verdict["relative"]:
                changes.add(verdict["effect"], **labels)
                for end, bound in zip((low, high), verdict["interval"] or (), strict=False):
                    end.add(bound, **labels)
    shown = [values[name] for name in sorted(values)]
    return [outcomes, failed, states, *shown, counts, changes, low, high]


def _values(
    m: Mapping[str, Json], labels: Mapping[str, str | None], into: dict[str, Family]
) -> None:
    """The headline, and the stored level that it was compared with; by unit."""
    unit = UNITS.get(m["unit"], "")
    other = {} if unit else {"unit": m["unit"]}
    baseline = m["verdict"]["baseline"]
    now = m["statistics"][m["headline"]] if m["samples"] else None
    for name, value, text in (
        ("vdb_measurement", now, "headline statistic of a measurement"),
        ("vdb_baseline", baseline, "stored level of a measurement"),
    ):
        if value is None:
            continue
        family = Family(name if unit else f"{name}_value", text, unit)
        family = into.setdefault(family.name, family)
        family.add(value, **labels, **other, statistic=m["headline"])


def _escaped(text: str) -> str:
    """A label's value: the three characters that the format escapes. `plain` took all newlines."""
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
