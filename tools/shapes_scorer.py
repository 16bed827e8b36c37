"""What the metrics of `shapes` give for clips that are known: ``python tools/shapes_scorer.py``.

Renders every scene of the suite once and scores it: intact, with another's caption, and with each
fault of the package. Rewrites that block of docs/shapes.md, or prints it with --print.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pages
from shapes_study import ATTRIBUTES, PAGE

from pytest_vdb.metrics import shapes
from pytest_vdb.metrics.faults import FAULTS

sys.path.append(str(Path(__file__).parent / "train_shapes"))
from data import held_out
from render import render

SCORES = (*ATTRIBUTES, "adherence")


def main() -> None:
    random = np.random.default_rng(0)
    clips = [render(scene, random) for scene in held_out()]
    captions = [scene.caption() for scene in held_out()]
    swapped = [captions[i] for i in random.permutation(len(captions))]
    rows = [row("intact", clips, captions), row("another's caption, at random", clips, swapped)]
    rows += [row(name.replace("_", " "), clips, captions, f) for name, f in FAULTS.items()]
    head = ("clips", *SCORES)
    text = pages.table([head, *rows])
    if "--print" in sys.argv[1:]:
        print(text)
    else:
        pages.write(PAGE, "scorer", text)


def row(
    name: str,
    clips: Sequence[np.ndarray],
    captions: Sequence[str],
    fault: Callable[[np.ndarray], np.ndarray] = lambda frames: frames,
) -> list[str]:
    """Means over clips, by metric."""
    bad = [fault(clip) for clip in clips]
    means = []
    for score in (getattr(shapes, f"shapes_{name}") for name in SCORES):
        values = [score(clip, text) for clip, text in zip(bad, captions, strict=True)]
        means.append(f"{statistics.mean(values):.3f}")
    return [name, *means]


if __name__ == "__main__":
    main()
