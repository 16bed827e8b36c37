"""How a test fails: what is raised for it, and what its record keeps of that."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_vdb.errors import InfraError, VdbError

if TYPE_CHECKING:
    from pytest_vdb.records import Json
    from pytest_vdb.verdicts import TestRun

LONGEST = 4000
"""Characters of a failure that a record keeps."""


def judged(run: TestRun, failure: BaseException | None, trouble: VdbError | None) -> None:
    """Raise the body's own failure first, then what the gate says; a VdbError without traceback."""
    own = failure if isinstance(failure, VdbError) else None
    if failure is not None and own is None and not isinstance(failure, pytest.skip.Exception):
        raise failure
    errors = [own or run.vdb.error or trouble]
    run.errors = [f"{type(e).__name__}: {e}" for e in errors if e and not isinstance(e, InfraError)]
    words = [*run.errors, run.message()] if run.failing else run.errors
    if words:
        pytest.fail("\n".join(filter(None, words)), pytrace=False)
    if failure is not None:
        raise failure
    if run.only_not_applicable:
        names = ", ".join(row.measurement.name for row in run.rows)
        pytest.skip(f"not applicable: {names} ({run.rows[0].verdict.reason})")


def place(item: pytest.Item) -> int | None:
    """The line at which the test begins."""
    line = item.location[1]
    return None if line is None else line + 1


def told(report: pytest.TestReport, item: pytest.Item, run: TestRun | None) -> Json:
    """Why a test failed beside what its verdicts say, and where; None where they say it all."""
    if not report.failed:
        return None
    crash = getattr(report.longrepr, "reprcrash", None)
    ours = crash is not None and Path(crash.path).parent == Path(__file__).parent
    if ours and run is not None and not run.errors and run.rows:
        return None
    text = "\n".join(run.errors) if run is not None and run.errors else ""
    text = text or (crash.message if crash is not None else report.longreprtext.strip())
    root = item.config.rootpath
    found = crash is not None and not ours and Path(crash.path).is_relative_to(root)
    return {
        "text": text[:LONGEST],
        "file": Path(crash.path).relative_to(root).as_posix() if crash and found else None,
        "line": crash.lineno if crash and found else None,
    }
