"""The results of a run with what ``--vdb-keep`` adds, small enough to be altered by hand."""

from __future__ import annotations

import hashlib
from typing import Any

from pytest_vdb.records import Prompt, Workload

NODEID = "benchmarks/test_it.py::test_quality[m]"
SOURCE = b"def test_quality(vdb): ...\n"
MEDIUM = b"a video"


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def row(name: str, kind: str, *values: float, unit: str = "1", **provenance: str) -> dict[str, Any]:
    samples = [{"prompt": f"p{i}", "seed": 0, "value": v} for i, v in enumerate(values)]
    mean = sum(values) / len(values)
    ordered = sorted(values)
    middle = (ordered[(len(values) - 1) // 2] + ordered[len(values) // 2]) / 2
    sd = (sum((v - mean) ** 2 for v in values) / (len(values) - 1)) ** 0.5
    return {
        "name": name,
        "unit": unit,
        "direction": "higher" if kind == "score" else "lower",
        "kind": kind,
        "samples": samples,
        "statistics": {
            "mean": mean,
            "median": middle,
            "min": ordered[0],
            "max": ordered[-1],
            "std": sd,
        },
        "headline": "mean",
        "provenance": {"how": "so", "version": "1", "weights": None, "device": "cpu", **provenance},
        "verdict": {"state": "NO_BASELINE", "reason": "", "consequence": "warn"},
    }


def a_run(*rows: dict[str, Any]) -> dict[str, Any]:
    """A run of one test on two prompts."""
    workload = Workload((Prompt("p0", "a fox"), Prompt("p1", "a boat")), (0,), {"num_frames": 5})
    media = {f"p{i}/0": {"frames": f"{i}" * 64, "video": sha(MEDIUM)} for i in range(2)}
    test = {
        "nodeid": NODEID,
        "outcome": "passed",
        "failure": None,
        "model": {"name": "m"},
        "workload": {"hash": workload.hash, **workload.portable.to_json()},
        "environments": {"quality": "cpu-1", "performance": "cpu-2"},
        "measurements": [*rows] or [row("sharpness", "score", 0.5, 0.7)],
        "kept": {
            "media": media,
            "reference": {},
            "weights": {"known": ["abc"], "why": ""},
            "source": {"benchmarks/test_it.py": sha(SOURCE)},
        },
    }
    facts = {"device": "cpu", "cpu": "EPYC, 2 cores", "torch": "2.13.0"}
    return {
        "schema": 1,
        "exit": 0,
        "started": "2026-11-22T09:30:05.000000Z",
        "commit": "abc",
        "environment": {"facts": facts, "quality": {}, "performance": {}},
        "tests": [test],
        "kept": {
            "python": "3.11.7",
            "packages": ["pillow==12.0", "torch==2.13.0+cpu"],
            "flags": ["--vdb-model=m"],
            "ini": {},
            "import_mode": "prepend",
            "pythonpath": [],
        },
    }
