"""What runs in a Ray actor: an `Extractor`, asked for the features of one video at a time."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_vdb.errors import InfraError, MissingWeights, Unmeasured, VdbError, WrongWeights
from pytest_vdb.measure.ray_actor import Held

if TYPE_CHECKING:
    from pytest_vdb.metrics.engine import Extractor
    from pytest_vdb.metrics.features import Feature
    from pytest_vdb.metrics.video import Video


@dataclass(frozen=True)
class How:
    """How the extractor of the run computes: what its numbers depend on beside a video.

    ``folders`` are where ``--vdb-metric-weights`` may lie on a node; ``threads`` are torch's, and
    ``stack`` the versions of the libraries, in the process that asks.
    """

    device: str
    dtype: str
    batch: int
    folders: tuple[str, ...]
    threads: int
    stack: str


class Scorer(Held):
    """One extractor on the device that Ray gave to this process; it keeps no results."""

    extractor: Extractor | None = None

    def start(self, device: str) -> Exception | None:
        """Take the device where others take theirs, and import libraries."""
        return _tried(lambda: self._start(device.partition(":")[0]))

    def prepare(
        self, how: How, features: Sequence[Feature], digests: Mapping[str, str]
    ) -> Exception | None:
        """Load the networks of ``features``, which stay; ``digests`` are those of their weights."""
        return _tried(lambda: self._prepare(how, features, digests))

    def rows(
        self,
        features: Sequence[Feature],
        names: Sequence[str],
        video: Video,
        reference: Video | None,
        prompt: str | None,
    ) -> dict[str, Any]:
        """Rows of the features with ``names``, or the exceptions that they fail with."""
        assert self.extractor is not None, "prepare comes first"
        wanted = [feature for feature in features if feature.name in names]
        found = self.extractor.results(wanted, video, reference, prompt)
        return {name: _sent(result) for name, result in found.items()}

    # ------------------------------------------------------------------ within

    def _start(self, kind: str) -> None:
        self.take(kind, 0 if kind == "cpu" else 1)
        import torch  # noqa: F401  a load is timed without it

        import pytest_vdb.metrics.engine  # noqa: F401

    def _prepare(self, how: How, features: Sequence[Feature], digests: Mapping[str, str]) -> None:
        import torch

        from pytest_vdb.metrics.engine import Extractor, stack
        from pytest_vdb.metrics.weights import find

        if (ours := stack()) != how.stack:
            raise InfraError(f"{self.where} has {ours}, and this process {how.stack}: {SAME}")
        torch.set_num_threads(how.threads)
        if self.extractor is None:
            weights = next((Path(one) for one in how.folders if Path(one).is_dir()), None)
            if how.folders and weights is None:
                raise MissingWeights(
                    f"--vdb-metric-weights: {self.where} has no folder {' or '.join(how.folders)}; "
                    "put it there on every node, or leave it out where packages have the weights"
                )
            self.extractor = Extractor(weights, how.device, how.dtype, how.batch)
        for network in dict.fromkeys(f.network for f in features if f.network):
            try:
                digest = find(network, self.extractor.weights).sha256
            except VdbError as error:
                raise type(error)(f"{self.where}: {error}") from None
            if digest != digests[network.name]:
                raise WrongWeights(
                    f"{self.where} has other weights of {network.name} (sha256 {digest}) than "
                    f"this process ({digests[network.name]}): give every node the same"
                )
            self.extractor.module(network)

    @property
    def where(self) -> str:
        import socket

        return f"node {socket.gethostname()}"


SAME = "install the same versions on every node, or leave --vdb-metric-device=cluster out"


def _tried(work: Callable[[], None]) -> Exception | None:
    """What ``work`` fails with, to be raised where it was asked for."""
    try:
        work()
    except Exception as error:
        return _sent(error)
    return None


def _sent(result: Any) -> Any:
    """``result`` as it arrives: an exception that cannot travel becomes one that can."""
    if isinstance(result, Exception):
        try:
            pickle.loads(pickle.dumps(result))
        except Exception:
            return Unmeasured(f"{type(result).__name__}: {result}")
    return result
