"""What changed without failing anything, in the summary: a line a model and workload."""

from __future__ import annotations

from collections.abc import Iterable

from pytest_vdb.records import Json


def lines(tests: Iterable[dict[str, Json]]) -> list[str]:
    """``tiny-wan: changed, bit drift (1e-06), quality neutral``.

    Failed tests have said it themselves. Of several tests of one workload, one that judged its
    quality speaks.
    """
    told: dict[tuple[str, str], dict[str, Json]] = {}
    for test in tests:
        found = test.get("attribution")
        if not found or not found["first"] or test["outcome"] not in ("passed", "skipped"):
            continue
        key = (test["model"]["name"], test["workload"]["hash"])
        if key not in told or told[key]["quality"] == "not judged":
            told[key] = found
    return [f"{model}: {found['summary']}. {found['text']}" for (model, _), found in told.items()]
