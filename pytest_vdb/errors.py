"""One class a user mistake, each a subclass of the natural builtin.

A message says what was wrong, where, and what to type instead.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

import pytest

EXIT_INFRA = 10
"""Exit code of a session whose only failures are the infrastructure's: a CI may requeue it once."""


class VdbError(Exception):
    """The plugin's own errors: shown as their message alone, without a traceback."""


class UnknownModel(VdbError, LookupError):
    """A model name that neither the catalog nor a hook knows."""


class UnknownMetric(VdbError, LookupError):
    """A metric name that neither the package nor a hook knows."""


class UnknownStage(VdbError, LookupError):
    """A stage that no model has."""


class UnknownPrompts(VdbError, LookupError):
    """A prompt suite that does not exist or a prompt file that cannot be read."""


class BadSetting(VdbError, ValueError):
    """A flag, ini value or marker argument that cannot mean anything."""


class BadManifest(VdbError, ValueError):
    """A folder of recorded videos whose ``prompts.jsonl`` is missing or wrong."""


class UnreadableClip(VdbError, OSError):
    """A clip that cannot be decoded completely."""


class BaselineError(VdbError, ValueError):
    """A baseline file that is corrupt, of another schema, or refers to media that are gone."""


class LostMedium(BaselineError):
    """A reference medium that a baseline names and the store lacks or holds altered."""


class Unreachable(LostMedium):
    """A store behind a URL that does not answer, and what is asked of it is in no cache."""


class BaselineWriteError(VdbError, OSError):
    """A baseline that could not be written; what was there before is untouched."""


class BadRun(VdbError, ValueError):
    """The JSON of a run that cannot be read, or holds what no run of ours writes."""


class BadBundle(VdbError, ValueError):
    """An archive of ``vdb bundle`` that is none, was altered, or is not what it says."""


class NoBase(VdbError, LookupError):
    """A base side that does not exist, cannot be made ready, or is the candidate itself."""


class NotInBase(NoBase):
    """A base that lacks the folder that pytest runs in: it has nothing of the model to run."""


class Unidentified(VdbError, LookupError):
    """Code or weights whose content nothing tells, so that nobody knows what videos depend on."""


class NoImage(VdbError, ValueError):
    """A prompt without the conditioning image that an image-to-video model starts from."""


class SourceError(VdbError, RuntimeError):
    """The model under test could not be loaded or raised while it generated."""


class PickleRefused(SourceError):
    """Weights that lie in pickle files only: loading one runs whatever code it holds."""


class OutOfMemory(VdbError, MemoryError):
    """The model under test ran out of memory, and said so itself."""


class PipelinesHeld(VdbError, MemoryError):
    """Pipelines that tests still hold leave no memory for the next."""


class InfraError(VdbError, RuntimeError):
    """The machine, not the change under test, is at fault: a lost worker, too few devices."""


class GenerationTimeout(VdbError, RuntimeError):
    """One load or one generation took longer than ``--vdb-timeout``.

    No TimeoutError: that is an OSError, and code that repeats a failed read would swallow it.
    """


class Insane(VdbError, AssertionError):
    """A video that nobody would accept: not finite, black, frozen, or of the wrong size."""


class TooFewSamples(VdbError, ValueError):
    """A statistic that this many samples cannot support."""


class Unmeasured(VdbError, ValueError):
    """A value that was asked for and not measured: it may not take part in a comparison."""


class MissingWeights(Unmeasured):
    """A metric's network whose weights are nowhere to be found."""


class WrongWeights(Unmeasured):
    """A file of weights that is damaged, or not the one that a metric is defined by."""


class NotApplicable(pytest.skip.Exception):  # type: ignore[name-defined,misc]
    """A value that the source declares it cannot measure, used where a number is needed."""


class Incomplete(VdbError, TypeError):
    """A fixture used where it cannot work, such as a live pipeline of a child process."""


class BadRouting(VdbError, AssertionError):
    """A router of experts that leaves some idle, or tokens without one."""


class RoutingWarning(UserWarning):
    """A router that may be on the way there."""


def nearest(word: object, known: Iterable[str]) -> str:
    """``did you mean 'x' or 'y'?`` or the list of what is known: the tail of a message."""
    known = sorted(known)
    close = difflib.get_close_matches(str(word), known, n=3, cutoff=0.5)
    if close:
        return "did you mean " + " or ".join(repr(c) for c in close) + "?"
    return "known: " + (", ".join(known) or "none")


def named(name: str, message: str) -> VdbError:
    """What another process raised, by its own class; what is none of ours is an InfraError."""
    kind = globals().get(name)
    if not (isinstance(kind, type) and issubclass(kind, VdbError)):
        kind = InfraError
    return kind(message)
