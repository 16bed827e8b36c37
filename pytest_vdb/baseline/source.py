"""Where a run was made: on the base branch, or for a change (a pull request) to it.

Only what ran on the base branch becomes a baseline, so that no change can move its own gate.
"""

from __future__ import annotations

from collections.abc import Mapping

from pytest_vdb.errors import BadSetting
from pytest_vdb.records import BASE, CHANGE

NUMBERS = (
    *("CI_MERGE_REQUEST_IID", "CI_EXTERNAL_PULL_REQUEST_IID"),  # GitLab
    *("BUILDKITE_PULL_REQUEST", "TRAVIS_PULL_REQUEST", "APPVEYOR_PULL_REQUEST_NUMBER"),
    *("CHANGE_ID", "CIRCLE_PULL_REQUEST", "BITBUCKET_PR_ID"),  # CHANGE_ID is Jenkins'
    *("SYSTEM_PULLREQUEST_PULLREQUESTID", "DRONE_PULL_REQUEST", "CI_COMMIT_PULL_REQUEST"),
)
"""Variables that hold a pull request's number or address, and nothing or "false" elsewhere."""

MERGE_QUEUE = "merge_group"


def detect(environ: Mapping[str, str]) -> str:
    """``"change"`` where a CI's variables say that a pull request is being run, else ``"base"``."""
    event = environ.get("GITHUB_EVENT_NAME", "")
    ref = environ.get("GITHUB_REF", "")
    if event.startswith("pull_request") or event == MERGE_QUEUE or ref.startswith("refs/pull/"):
        return CHANGE
    said = (environ.get(name, "") for name in NUMBERS)
    return CHANGE if any(value not in ("", "false", "0") for value in said) else BASE


def refuse_change(source: str) -> None:
    """Raise BadSetting where a change would store sessions."""
    if source != BASE:
        raise BadSetting(
            "--vdb-update: this run is a pull request's, and only runs of the base branch become "
            "baselines. Run it on the base branch; to let this change pass, review it with `vdb "
            "accept`. Where this is the base branch all the same, say --vdb-run-source=base"
        )
