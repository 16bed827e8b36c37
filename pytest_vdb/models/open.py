"""Open what a `ModelSpec` names; heavy libraries load when they are needed, and not before."""

from __future__ import annotations

from pytest_vdb.errors import BadSetting
from pytest_vdb.models.sources import PROVIDES, Source
from pytest_vdb.records import ModelSpec


def open_source(spec: ModelSpec, device: str = "cpu") -> Source:
    """Load ``spec`` on ``device`` (``"cpu"``, ``"cuda:0"``) and give what generates its videos.

    How many threads torch uses belongs to the process, so the runner sets
    ``spec.options["num_threads"]``, not the source.

    Raises SourceError (the model could not be loaded), UnknownModel (the hub has no such
    repository), InfraError (it cannot be reached), BadManifest (recorded videos whose manifest is
    wrong) or BadSetting (a spec whose ``source`` does not exist, load options that mean nothing).
    """
    match spec.source:
        case "diffusers":
            from pytest_vdb.models.hub import open_hub

            return open_hub(spec, device)
        case "factory":
            from pytest_vdb.models.factory import open_factory

            return open_factory(spec, device)
        case "endpoint":
            from pytest_vdb.models.endpoint import EndpointSource

            return EndpointSource(spec)
        case "recorded":
            from pytest_vdb.models.recorded import RecordedSource

            return RecordedSource(spec)
    raise BadSetting(
        f"model {spec.name!r} has the source {spec.source!r}; "
        f"give one of: {', '.join(sorted(PROVIDES))}"
    )
