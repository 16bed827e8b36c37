"""The rules: pure functions from numbers to a verdict.

Each takes plain values and gives a ``Verdict``; nothing here knows files, models or pytest. The
figures behind the constants are in docs/verdicts.md and docs/simulation.md.
"""

from pytest_vdb.gate.rules.interleaved import LOOKS as LOOKS
from pytest_vdb.gate.rules.interleaved import PAIR_SD as PAIR_SD
from pytest_vdb.gate.rules.interleaved import block_ratios as block_ratios
from pytest_vdb.gate.rules.interleaved import interleaved as interleaved
from pytest_vdb.gate.rules.interleaved import pairs_resolve as pairs_resolve
from pytest_vdb.gate.rules.latency import SESSION_SD as SESSION_SD
from pytest_vdb.gate.rules.latency import fastest_half as fastest_half
from pytest_vdb.gate.rules.latency import latency_screen as latency_screen
from pytest_vdb.gate.rules.latency import screen_resolves as screen_resolves
from pytest_vdb.gate.rules.memory import peak_memory as peak_memory
from pytest_vdb.gate.rules.memory import slack_of as slack_of
from pytest_vdb.gate.rules.modes import live_modes as live_modes
from pytest_vdb.gate.rules.paired import PROMPTS_TO_GATE as PROMPTS_TO_GATE
from pytest_vdb.gate.rules.paired import paired as paired
from pytest_vdb.gate.rules.paired import prompts_resolve as prompts_resolve
from pytest_vdb.gate.rules.sets import kid_changes as kid_changes
from pytest_vdb.gate.rules.sets import swap_test as swap_test
