"""``--vdb-cluster``: a session whose videos are generated, and may be scored, on a Ray cluster."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from functools import cached_property
from typing import TYPE_CHECKING

import pytest

from pytest_vdb.environment import resolve_device
from pytest_vdb.errors import EXIT_INFRA, BadSetting, InfraError, VdbError
from pytest_vdb.records import Baseline, Environment, ModelSpec, Run

if TYPE_CHECKING:
    from pytest_vdb.bench import Bench
    from pytest_vdb.measure.runner import Runner
    from pytest_vdb.metrics.registry import MetricSpec
    from pytest_vdb.options import Settings
    from pytest_vdb.parallel.cluster import Cluster
    from pytest_vdb.scorers.fan import Inputs, Scorers
    from pytest_vdb.session import VdbSession


class Clustered:
    """The cluster of a session, joined when it is first needed."""

    def __init__(self, session: VdbSession, address: str) -> None:
        self.session = session
        self.address = address

    @cached_property
    def cluster(self) -> Cluster:
        from pytest_vdb.parallel.cluster import Cluster

        session = self.session
        most = session.settings.actors
        return Cluster(self.address, session.config.rootpath, session.scratch, most)

    @cached_property
    def device(self) -> str:
        """Where its actors run. Raises what joining the cluster raises."""
        wanted = self.session.settings.device
        if self.cluster.local or wanted != "auto":
            return resolve_device(wanted)
        return self.cluster.device()

    @cached_property
    def runner(self) -> Runner:
        from pytest_vdb.measure.cluster import OnCluster

        return OnCluster(self.cluster)

    @cached_property
    def metric_device(self) -> str:
        """Where networks of metrics compute on its nodes."""
        return resolve_device("auto") if self.cluster.local else self.cluster.device()

    @cached_property
    def scorers(self) -> Scorers:
        from pytest_vdb.scorers.fan import Scorers

        return Scorers(self.cluster, self.session.extractor, self.session.say)

    def compute(self, bench: Bench, spec: MetricSpec, run: Run, baseline: Baseline | None) -> str:
        """Have the actors compute what ``spec`` is made of, for all videos of ``run``.

        Gives where that was, to be said after the device: nothing where all was kept already. The
        models' actors end before it, since the devices are theirs as long as they live.
        """
        asked = self.scorers.lacking(spec.features, _inputs(bench, spec, run, baseline))
        if not asked:
            return ""
        if "runner" in self.__dict__:
            self.runner.release()
        return self.scorers.compute(spec.name, asked, bench.settings.timeout)

    def dismiss(self) -> None:
        """End the actors that compute for metrics: what comes needs their devices."""
        if "scorers" in self.__dict__:
            self.scorers.release()

    def takes(self, spec: ModelSpec) -> bool:
        """Whether ``spec`` runs on the cluster: what is loaded does; clips and servers do not."""
        return spec.source in ("diffusers", "factory")

    def environments(self, spec: ModelSpec) -> tuple[Environment, Environment]:
        """(quality, performance) environments of ``spec`` there."""
        return self.cluster.environments(spec, self.device, self.session.settings.pool)

    def join(self) -> None:
        """Reach the cluster and have a place there for every model, and for what metrics need.

        Raises InfraError in seconds where it does not answer or has no room, BadSetting where its
        nodes have another version, or are of several kinds.
        """
        specs = [spec for spec in self.session.models if self.takes(spec)]
        for spec in specs:
            self.environments(spec)
        if self.session.settings.scores_on_cluster:
            from pytest_vdb.scorers.fan import SPEC

            self.cluster.places(SPEC, self.metric_device)

    def validate(self) -> None:
        """Raise for what cannot go together; nothing is reached."""
        from pytest_vdb.parallel.cluster import check_installed

        flag, session = f"--vdb-cluster={self.address}", self.session
        check_installed()
        if hasattr(session.config, "workerinput") or session.config.getoption("tx", None):
            raise BadSetting(f"{flag} spreads the samples itself: leave -n out")
        if session.settings.serve:
            raise BadSetting(f"{flag}: --vdb-serve starts its server here; leave one of them out")
        if ":" in session.settings.device:
            raise BadSetting(
                f"--vdb-device={session.settings.device}: Ray chooses among a cluster's devices; "
                "say --vdb-device=cuda"
            )
        if session.settings.base is not None and self.address != "local":
            raise BadSetting(
                f"{flag}: --vdb-against runs both sides on this machine; leave one of them out, or "
                "say --vdb-cluster=local"
            )

    def check(self, settings: Settings) -> None:
        """Raise for a test's settings that cannot mean anything on a cluster."""
        if settings.runner != "auto":
            raise BadSetting(
                f"runner {settings.runner!r} generates in this machine's own processes, and "
                f"--vdb-cluster={self.address} on actors: leave one of them out"
            )

    def close(self) -> None:
        """Leave it; a local one ends."""
        self.dismiss()
        if "cluster" in self.__dict__:
            self.cluster.close()


def _inputs(
    bench: Bench, spec: MetricSpec, run: Run, baseline: Baseline | None
) -> Iterator[Inputs]:
    """What ``spec`` is computed from, video by video; what lacks is told when it is scored."""
    if spec.of_set:
        with suppress(VdbError):
            for side in bench.sets(spec, run, baseline):
                yield from ((video, None, None) for video in side)
        return
    for sample in run.samples:
        with suppress(VdbError):
            given = bench.inputs(spec, sample, baseline)
            yield bench.video(sample), given.get("reference"), given.get("prompt")


class Joining:
    """Pytest's hook that ends a run at once where its cluster is out of reach."""

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> None:
        from pytest_vdb.stash import session_of, uses_vdb

        if session.config.option.collectonly or not any(map(uses_vdb, session.items)):
            return
        clustered = session_of(session.config).cluster
        assert clustered is not None
        try:
            clustered.join()
        except InfraError as error:
            pytest.exit(f"INFRA_ERROR: {error}", returncode=EXIT_INFRA)
        except VdbError as error:
            pytest.exit(str(error), returncode=int(pytest.ExitCode.USAGE_ERROR))
