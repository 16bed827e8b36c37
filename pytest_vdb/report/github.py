"""What a GitHub job shows by itself: the step's summary, and annotations at lines of the change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from pytest_vdb.records import Json
from pytest_vdb.report.writers import Context
from pytest_vdb.units import plain

PAGES = ("CI_JOB_URL", "BUILDKITE_BUILD_URL", "BUILD_URL")
"""Where GitLab, Buildkite and Jenkins show a job with its files."""


def run_url(environment: Mapping[str, str]) -> str:
    """The page of this CI job, where the CI says it; else empty. GitHub lists a run's artifacts."""
    server, repository, run = (
        environment.get(f"GITHUB_{name}", "") for name in ("SERVER_URL", "REPOSITORY", "RUN_ID")
    )
    if server and repository and run:
        return f"{server}/{repository}/actions/runs/{run}"
    return next((environment[name] for name in PAGES if environment.get(name)), "")


def summarize(run: dict[str, Json], context: Context, environment: Mapping[str, str]) -> list[str]:
    """Append the run to the step's summary, if there is one; a line of trouble where that fails."""
    path = environment.get("GITHUB_STEP_SUMMARY")
    if not path:
        return []
    from pytest_vdb.report.markdown import markdown

    try:
        text = markdown(run, context)
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(f"{text}\n\n")
    except OSError as error:
        return [f"the step's summary {path} was not written: {error.strerror or error}"]
    except Exception as error:  # whatever it stumbles over, the run stands
        return [plain(f"the step's summary {path} was not written: {error!r}")]
    return []


def annotated(
    tests: Sequence[Mapping[str, Json]], context: Context, environment: Mapping[str, str]
) -> list[str]:
    """Lines that annotate the change when a GitHub job prints them; none elsewhere."""
    if environment.get("GITHUB_ACTIONS") != "true":
        return []
    from pytest_vdb.report.annotations import annotate

    workspace = environment.get("GITHUB_WORKSPACE", "")
    return [str(one) for one in annotate(tests, context.root, workspace, context.trouble)]
