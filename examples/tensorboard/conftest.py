"""Figures of every run in TensorBoard: `pip install tensorboard`, `tensorboard --logdir runs`."""

from pathlib import Path

FOLDER = Path("runs")


def pytest_vdb_report(run):
    from torch.utils.tensorboard import SummaryWriter

    step = len(list(FOLDER.glob("events.*")))  # a file a run: a run is a step
    with SummaryWriter(FOLDER) as writer:
        for test in run["tests"]:
            for measurement in test["measurements"]:
                if not measurement["samples"]:
                    continue  # not measured: a gap in the line, and no number
                value = measurement["statistics"][measurement["headline"]]
                writer.add_scalar(f"{measurement['name']}/{test['nodeid']}", value, step)
