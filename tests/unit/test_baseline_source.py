"""Base branch or pull request, as each CI says."""

import pytest

from pytest_vdb.baseline.source import detect


@pytest.mark.parametrize(
    "environ",
    [
        {"GITHUB_EVENT_NAME": "pull_request"},
        {"GITHUB_EVENT_NAME": "pull_request_target"},
        {"GITHUB_EVENT_NAME": "merge_group"},
        {"GITHUB_EVENT_NAME": "workflow_dispatch", "GITHUB_REF": "refs/pull/7/merge"},
        {"CI_MERGE_REQUEST_IID": "7"},
        {"BUILDKITE_PULL_REQUEST": "7"},
        {"CHANGE_ID": "PR-7"},
    ],
)
def test_a_change(environ):
    assert detect({"CI": "true", **environ}) == "change"


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"GITHUB_EVENT_NAME": "push", "GITHUB_REF": "refs/heads/main"},
        {"GITHUB_EVENT_NAME": "schedule"},
        {"CI_COMMIT_BRANCH": "main"},
        {"BUILDKITE_PULL_REQUEST": "false"},
        {"TRAVIS_PULL_REQUEST": "false"},
    ],
)
def test_the_base_branch(environ):
    assert detect(environ) == "base"
