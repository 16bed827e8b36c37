"""What the summary says of a trial."""

import pytest

from pytest_vdb.report.beside import lines

TRIAL = {"model": "m", "workload": "w", "base": "main", "pairs": 3, "loads": 6, "seconds": 71.6}


@pytest.mark.parametrize(
    ("base", "candidate", "told"),
    [
        (
            "1 /a/cache/trees/9f/ours",
            "1 /a/repo/ours",
            "1 …/cache/trees/9f/ours against 1 …/repo/ours",
        ),
        (
            "0.35.2 /home/me/.cache/environments/9f/lib/python3.11/site-packages/diffusers",
            "0.42.1 /home/me/venv/lib/python3.11/site-packages/diffusers",
            "0.35.2 …/.cache/environments/…/diffusers against 0.42.1 …/venv/lib/…/diffusers",
        ),
        ("1 /base/ours", "1 /repo/ours", "1 /base/ours against 1 /repo/ours"),
        ("1 /base/ours", None, "1 /base/ours against –"),
    ],
    ids=["trees", "environments", "nothing in common", "gone"],
)
def test_the_places_of_two_sides_are_told_by_what_differs(base, candidate, told):
    sides = {"base": {"ours": base}, "candidate": {"ours": candidate} if candidate else {}}
    assert lines([{"beside": {**TRIAL, "code": sides}}, {"beside": None}]) == [
        "m beside main: 3 process pairs, 6 loads, 72 s",
        f"  ours: {told}",
    ]


def test_a_trial_is_told_once_with_all_its_pairs():
    code = {"code": {}}
    tests = [{"beside": {**TRIAL, **code}}, {"beside": {**TRIAL, **code, "pairs": 4, "loads": 8}}]
    other = {"beside": {**TRIAL, **code, "workload": "v", "pairs": 1, "loads": 2}}
    assert lines([*tests, other]) == [
        "m beside main: 4 process pairs, 8 loads, 72 s",
        "m beside main: 1 process pair, 2 loads, 72 s",
    ]
