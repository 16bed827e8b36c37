"""The summary at the end of a run, of results that need no run."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_vdb.report import rows


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        ("worse by more than the tolerance", "Worse by more than the tolerance."),
        ("not reached: OSError: gone", "Not reached: OSError: gone."),
        ("shapes_color: 'x' is no scene", "shapes_color: 'x' is no scene."),
        ("sharpness, of all", "sharpness, of all."),
        ("clip: no weights", "clip: no weights."),
        ("", "."),
    ],
    ids=["words", "not reached", "name", "measurement", "plain name", "nothing"],
)
def test_a_sentence_begins_as_its_reason_does_where_that_is_a_name(
    measured: Any, reason: str, told: str
) -> None:
    said = rows.sentence(*rows.parsed(measured("sharpness", "UNMEASURED", reason=reason)))
    assert said.endswith(f", n 8. {told}")
