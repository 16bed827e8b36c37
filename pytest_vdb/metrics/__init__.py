"""What is measured on videos: metrics of one family a file, as data in ``catalog``.

``evaluate(videos, metrics=[...])`` computes any of them without a test.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytest_vdb.metrics.scoring import Score as Score
    from pytest_vdb.metrics.scoring import Scores as Scores
    from pytest_vdb.metrics.scoring import evaluate as evaluate

__all__ = ["Score", "Scores", "evaluate"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from pytest_vdb.metrics import scoring

        return getattr(scoring, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
