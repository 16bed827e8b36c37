"""The stopwatch and the alarm."""

import contextlib
import signal
import threading
import time

import pytest

from pytest_vdb.errors import BadSetting, GenerationTimeout
from pytest_vdb.measure.clock import Alarm, timed


def message() -> str:
    return "too slow"


def test_sleeping_costs_wall_time_and_no_cpu_time():
    result, lap = timed(lambda: time.sleep(0.05) or "made")
    assert result == "made"
    assert 0.05 <= lap.wall < 1
    assert lap.cpu < 0.03


def test_working_costs_cpu_time():
    def work() -> None:
        end = time.process_time() + 0.05
        while time.process_time() < end:
            pass

    assert timed(work)[1].cpu >= 0.05


def test_alarm_ends_the_block():
    started = time.monotonic()
    with pytest.raises(GenerationTimeout, match="too slow"), Alarm(0.05, message):
        time.sleep(30)
    assert time.monotonic() - started < 5


def test_restart_starts_the_time_anew():
    with Alarm(0.3, message) as alarm:
        for _ in range(4):
            time.sleep(0.1)
            alarm.restart()


def test_a_block_that_swallows_the_timeout_still_times_out():
    def swallow(restart: bool) -> None:
        with Alarm(0.05, message) as alarm:
            with contextlib.suppress(Exception):
                time.sleep(30)
            if restart:
                alarm.restart()

    for restart in (False, True):
        with pytest.raises(GenerationTimeout):
            swallow(restart)


def test_an_error_that_replaces_the_timeout_becomes_it_again():
    def replace() -> None:
        try:
            time.sleep(30)
        except Exception as exc:
            raise RuntimeError("step failed") from exc

    with pytest.raises(GenerationTimeout) as caught, Alarm(0.05, message):
        replace()
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_an_error_of_the_block_passes():
    with pytest.raises(ZeroDivisionError), Alarm(30, message):
        1 / 0  # noqa: B018


def test_the_handler_and_timer_of_before_come_back():
    rung = []
    before = signal.signal(signal.SIGALRM, lambda *_: rung.append(time.monotonic()))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        started = time.monotonic()
        with Alarm(30, message):
            time.sleep(0.1)
        assert 0 < signal.getitimer(signal.ITIMER_REAL)[0] <= 0.2
        time.sleep(0.4)
        assert len(rung) == 1
        assert rung[0] - started >= 0.29
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_without_a_limit_nothing_is_touched():
    before = signal.getsignal(signal.SIGALRM)
    with Alarm(None, message) as alarm:
        assert signal.getsignal(signal.SIGALRM) is before
        alarm.restart()


def test_another_thread_is_refused_and_told_of_the_child_runner():
    caught = []

    def guarded() -> None:
        try:
            with Alarm(1, message):
                pass
        except BadSetting as exc:
            caught.append(str(exc))

    thread = threading.Thread(target=guarded)
    thread.start()
    thread.join()
    assert "child runner" in caught[0]


def test_a_limit_of_zero_is_refused():
    with pytest.raises(BadSetting, match="above 0"), Alarm(0, message):
        pass
