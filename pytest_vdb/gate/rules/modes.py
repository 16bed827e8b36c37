"""Baselines with more than one mode: an autotuner that picks one of two kernels, say."""

from __future__ import annotations

from collections.abc import Sequence


def live_modes(
    levels: Sequence[float], commits: Sequence[str], gap: float, least: int = 1
) -> list[list[int]]:
    """Which stored sessions (indices, oldest first) belong together; the newest's mode comes first.

    ``levels`` has a number a session, oldest first; sessions further apart than ``gap``, with
    none between them, are of different modes. A change of the code also leaves two levels behind,
    and the old one must not excuse a step back to it; nor may one bad session excuse what it
    showed. So beside the newest session's mode only those count that came back after another had
    been seen, or that were seen on a commit of another mode's sessions. Commits are compared as
    they are written: of trees with changes (``…+``) none is another's. Where no commit is known
    (``""``) nothing tells a step from a mode, and every level counts.

    Of what a busy machine disturbs, ``least`` is how many sessions make a shared commit's mode: a
    level of fewer is a bad session, also the newest where its (known) commit has another mode.
    """
    modes: list[list[int]] = []
    last = None
    for index in sorted(range(len(levels)), key=lambda i: levels[i]):
        if last is None or levels[index] - last > gap:
            modes.append([])
        modes[-1].append(index)
        last = levels[index]
    modes = sorted((sorted(mode) for mode in modes), key=lambda mode: -mode[-1])
    while len(modes[0]) < least and any(
        len(other) >= least and _shared(modes[0], other, commits) - {""} for other in modes[1:]
    ):
        del modes[0]
    return [mode for mode in modes if mode is modes[0] or _recurs(mode, modes, commits, least)]


def _recurs(mode: list[int], modes: list[list[int]], commits: Sequence[str], least: int) -> bool:
    others = [other for other in modes if other is not mode]
    if any(mode[0] < index < mode[-1] for other in others for index in other):
        return True  # it came back
    return len(mode) >= least and any(_shared(mode, other, commits) for other in others)


def _shared(mode: list[int], other: list[int], commits: Sequence[str]) -> set[str]:
    """The commits that both were seen on; ``""`` where both have sessions of nobody knows which."""
    both = {commits[index] for index in mode} & {commits[index] for index in other}
    return {commit for commit in both if not commit.endswith("+")}
