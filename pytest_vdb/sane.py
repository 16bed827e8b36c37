"""What nobody would accept in the videos of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_vdb.models.catalog import WHOLE_SECTIONS
from pytest_vdb.models.sources import provides
from pytest_vdb.records import FRAME_COUNTS, Run

if TYPE_CHECKING:
    from pytest_vdb.bench import Bench


def find_faults(bench: Bench, run: Run) -> list[tuple[str, str]]:
    """(name, message) of every fault that `metrics.sanity` finds in these videos of ``bench``."""
    from pytest_vdb.metrics import sanity

    spec = bench.spec
    wanted = {*FRAME_COUNTS, "height", "width"}
    checked = spec.source == "recorded"  # its source holds it to the manifest's sizes
    expected = {} if checked else {k: v for k, v in bench.workload.call.items() if k in wanted}
    texts = {prompt.id: prompt.text for prompt in bench.workload.prompts}
    faults = []
    for sample in run.samples:
        sizes = dict(expected)
        if spec.pipeline in WHOLE_SECTIONS:  # longer is as it should be
            for name in FRAME_COUNTS:
                if name in sizes:
                    sizes[name] = max(sizes[name], sample.shape[0])
        found = sanity.check(bench.frames(sample), nonfinite=sample.nonfinite, expected=sizes)
        if "quality" not in provides(spec):  # random weights show nothing, or NaN
            found = tuple(fault for fault in found if fault.name in ("frames", "size"))
        where = f"prompt {texts[sample.prompt]!r}, seed {sample.seed}"
        faults += [(fault.name, f"{fault} ({where})") for fault in found]
    return faults
