"""The nouns: one frozen dataclass each, plain data, JSON in and out.

Nothing here imports torch or numpy, so every room may import it. Units are base units:
seconds, bytes; scores are on the metric's published scale.
"""

from pytest_vdb.records.asked import FRAME_COUNTS as FRAME_COUNTS
from pytest_vdb.records.asked import ModelSpec as ModelSpec
from pytest_vdb.records.asked import Prompt as Prompt
from pytest_vdb.records.asked import Workload as Workload
from pytest_vdb.records.base import Json as Json
from pytest_vdb.records.base import Record as Record
from pytest_vdb.records.judged import Acceptance as Acceptance
from pytest_vdb.records.judged import State as State
from pytest_vdb.records.judged import Verdict as Verdict
from pytest_vdb.records.kept import BASE as BASE
from pytest_vdb.records.kept import CHANGE as CHANGE
from pytest_vdb.records.kept import Baseline as Baseline
from pytest_vdb.records.kept import Environment as Environment
from pytest_vdb.records.kept import Session as Session
from pytest_vdb.records.kept import Stored as Stored
from pytest_vdb.records.kept import definition as definition
from pytest_vdb.records.measured import REPORTED as REPORTED
from pytest_vdb.records.measured import TIMED as TIMED
from pytest_vdb.records.measured import WHOLE_RUN as WHOLE_RUN
from pytest_vdb.records.measured import Kind as Kind
from pytest_vdb.records.measured import Measurement as Measurement
from pytest_vdb.records.measured import Missing as Missing
from pytest_vdb.records.measured import Provenance as Provenance
from pytest_vdb.records.measured import Run as Run
from pytest_vdb.records.measured import Sample as Sample
from pytest_vdb.records.measured import Timeline as Timeline
from pytest_vdb.records.measured import Value as Value
from pytest_vdb.records.measured import sample_key as sample_key
