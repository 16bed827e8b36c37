"""What a session is held to: baselines, accepted entries, and the commit that it trusts."""

from __future__ import annotations

import os
from functools import cached_property
from typing import TYPE_CHECKING

from pytest_vdb.baseline import source
from pytest_vdb.baseline.accepted import Accepted
from pytest_vdb.baseline.opening import open_store
from pytest_vdb.baseline.remote import is_url
from pytest_vdb.baseline.store import Store
from pytest_vdb.errors import BadSetting
from pytest_vdb.trusted import command

if TYPE_CHECKING:
    from pytest_vdb.baseline.calibration import CalibrationFile
    from pytest_vdb.edits import Edits
    from pytest_vdb.gitrepo import Ref
    from pytest_vdb.noise import Calibration
    from pytest_vdb.records import Environment
    from pytest_vdb.session import VdbSession


class Standards:
    """Read when first needed, once a session."""

    def __init__(self, session: VdbSession) -> None:
        self.session = session
        self.settings = session.settings
        self.root = session.config.rootpath
        self._calibrations: dict[str, CalibrationFile | None] = {}

    @cached_property
    def ref(self) -> Ref | None:
        """The commit that the gate trusts, if ``--vdb-baseline-ref`` names one. Raises NoBase."""
        if self.settings.baseline_ref is None:
            return None
        from pytest_vdb.gitrepo import Ref

        return Ref.of("--vdb-baseline-ref", self.settings.baseline_ref, self.root)

    @cached_property
    def edits(self) -> Edits | None:
        """What the change under test does to its own gate. Raises NoBase."""
        if self.ref is None:
            return None
        from pytest_vdb import edits

        folders = {"baseline": self.settings.baselines, "accepted": self.settings.accepted}
        places = {
            what: self.session.place(name) for what, name in folders.items() if not is_url(name)
        }
        patterns = self.session.config.getini("python_files")
        return edits.find(self.ref, places, patterns)

    @cached_property
    def store(self) -> Store:
        """Raises BadSetting, NoBase, Unreachable."""
        s, session = self.settings, self.session
        return open_store(s.baselines, s.store, session.place, self.ref, session.scratch)

    @cached_property
    def accepted(self) -> Accepted:
        """What people have reviewed and let stand. Raises BaselineError.

        Where the trusted commit itself says that entries are honoured, they are that commit's: else
        a change could accept itself. Where the command says so, whoever gave it has approved.
        """
        folder = self.session.place(self.settings.accepted)
        by_command = command(self.session.config).vdb_honour_accepted
        if self.ref is None or by_command or not self.settings.honour_accepted:
            return Accepted(folder)
        from pytest_vdb.baseline.ref import inside, take

        below = inside(self.ref, folder, "--vdb-accepted")
        return Accepted(take(self.ref, below, self.session.scratch))

    def calibration(self, model: str, environment: Environment, name: str) -> Calibration | None:
        """What is known of the noise of ``name`` on this kind of machine. Raises BaselineError."""
        from pytest_vdb.baseline import calibration
        from pytest_vdb.gate.calibration import estimate

        path = calibration.relative_path(model, environment)
        if path not in self._calibrations:
            self._calibrations[path] = calibration.read(self.store, path)
        file = self._calibrations[path]
        return estimate(list(file.sessions.values()), name) if file else None

    @property
    def label(self) -> str:
        """Where baselines come from, as the headline shows it."""
        if is_url(self.settings.baselines):
            return self.store.label
        where = os.path.relpath(self.store.root, self.session.config.invocation_params.dir)
        return f"{where} of {self.ref}" if self.ref else where

    @property
    def run_source(self) -> str:
        """``"base"`` or ``"change"``: what is run here, as said or as the CI says."""
        return self.settings.run_source or source.detect(os.environ)

    def validate(self) -> None:
        """Raise for what cannot be read, or written where an update is asked for."""
        _ = self.store
        if not hasattr(self.session.config, "workerinput"):
            _ = self.edits
        if self.settings.update:
            source.refuse_change(self.run_source)
        if self.settings.update and is_url(self.settings.baselines):
            raise BadSetting(
                "--vdb-update writes to a folder: name one with --vdb-baselines and bring it to "
                "the URL with vdb push --files"
            )
