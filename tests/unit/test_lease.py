"""Leases: exclusive over processes, all or none, free when the holder dies."""

import os
import signal
import socket
import subprocess
import sys
import textwrap
import time

import pytest

from pytest_vdb.errors import InfraError
from pytest_vdb.parallel.lease import Lease, choose, usable_cores, visible_devices

PRESENT = ["GPU-aa11", "GPU-ab22", "GPU-cc33"]
TWO = ["GPU-one", "GPU-two"]


@pytest.mark.parametrize(
    ("allowed", "chosen"),
    [
        ("0,2", ["GPU-aa11", "GPU-cc33"]),
        ("2,0", ["GPU-cc33", "GPU-aa11"]),
        ("GPU-ab22", ["GPU-ab22"]),
        ("GPU-c", ["GPU-cc33"]),
        ("GPU-a", []),  # ambiguous
        ("", []),
        ("-1", []),
        ("1,-1,0", ["GPU-ab22"]),  # CUDA ignores what follows an entry that names nothing
        ("0,7,1", ["GPU-aa11"]),
        ("0,0", ["GPU-aa11"]),
        ("MIG-x", []),
    ],
)
def test_cuda_visible_devices_as_cuda_reads_it(allowed, chosen):
    assert choose(PRESENT, allowed) == chosen


def test_a_mig_instance_counts_where_it_is_named():
    assert choose(PRESENT, "MIG-x", lambda uuid: uuid == "MIG-x") == ["MIG-x"]


def test_looking_for_devices_imports_no_torch():
    code = (
        "import sys; from pytest_vdb.parallel.lease import visible_devices; "
        "print(visible_devices()); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_hidden_device_is_not_visible(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert visible_devices() == []


def test_work_on_a_cpu_needs_no_device_and_sees_none():
    with Lease(0) as lease:
        assert lease.devices == ()
        assert lease.env == {"CUDA_VISIBLE_DEVICES": ""}


def test_too_few_devices_is_an_error_that_says_what_is_visible(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(InfraError, match=r"1 NVIDIA device.* and 0 are visible"), Lease(1):
        pass


def test_two_leases_never_share_a_device(tmp_path):
    with Lease(1, TWO, folder=tmp_path) as first, Lease(1, TWO, folder=tmp_path) as second:
        assert {*first.devices, *second.devices} == set(TWO)
        assert first.env["CUDA_VISIBLE_DEVICES"] != second.env["CUDA_VISIBLE_DEVICES"]
        with pytest.raises(InfraError, match="did not become free"):
            Lease(1, TWO, wait=0.3, folder=tmp_path).__enter__()
    with Lease(2, TWO, wait=0, folder=tmp_path) as both:
        assert both.devices == tuple(TWO)


def test_devices_are_taken_all_or_none(tmp_path):
    with Lease(1, TWO, folder=tmp_path):
        with pytest.raises(InfraError):
            Lease(2, TWO, wait=0, folder=tmp_path).__enter__()
        with Lease(1, TWO, wait=0, folder=tmp_path):  # the failed one left nothing locked
            pass


def holder(tmp_path, hold: str) -> subprocess.Popen[str]:
    """A process that takes both devices, says so, and then does ``hold``."""
    code = f"""
        import time
        from pathlib import Path
        from pytest_vdb.parallel.lease import Lease
        with Lease(2, {TWO!r}, folder=Path({str(tmp_path)!r})):
            print("held", flush=True)
            {hold}
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_device_of_another_process_is_waited_for_and_free_when_it_dies(tmp_path):
    process = holder(tmp_path, "time.sleep(60)")
    try:
        with pytest.raises(InfraError, match="did not become free"):
            Lease(1, TWO, wait=0.2, folder=tmp_path).__enter__()
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        with Lease(2, TWO, wait=2, folder=tmp_path):
            pass
    finally:
        process.kill()
        process.communicate()


def test_a_waiting_lease_gets_what_becomes_free(tmp_path):
    process = holder(tmp_path, "time.sleep(0.5)")
    started = time.monotonic()
    with Lease(1, TWO, wait=30, folder=tmp_path):
        assert time.monotonic() - started >= 0.2
    assert process.wait() == 0
    process.communicate()


def test_many_processes_never_meet_on_a_device(tmp_path):
    code = f"""
        import os, sys
        from pathlib import Path
        from pytest_vdb.parallel.lease import Lease
        for _ in range(15):
            with Lease(1, {TWO!r}, folder=Path({str(tmp_path)!r})) as lease:
                mark = Path({str(tmp_path)!r}, lease.devices[0] + ".mark")
                os.close(os.open(mark, os.O_CREAT | os.O_EXCL))  # fails where another one is in
                mark.unlink()
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    processes = [subprocess.Popen(command) for _ in range(4)]
    assert [process.wait(60) for process in processes] == [0] * 4


def test_ports_are_free_and_belong_to_one_lease(tmp_path):
    with Lease(0, folder=tmp_path) as first, Lease(0, folder=tmp_path) as second:
        ports = [*first.ports(3), *first.ports(2), *second.ports(3)]
        assert len(set(ports)) == 8
        for port in ports:
            with socket.socket() as sock:
                sock.bind(("127.0.0.1", port))


def test_locks_lie_in_a_folder_of_the_users_own(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with Lease(1, TWO):
        (folder,) = tmp_path.iterdir()
        assert folder.stat().st_mode & 0o077 == 0


def test_a_lock_folder_that_is_a_link_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / f"pytest-vdb-{os.getuid()}").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InfraError, match="not yours"):
        Lease(1, TWO).__enter__()


CORES = ["cpu3", "cpu5"]


def test_cores_are_leased_by_name_and_never_shared(tmp_path):
    with Lease(2, CORES, folder=tmp_path, kind="cpu") as lease:
        assert lease.devices == tuple(CORES)
        assert lease.env["PYTEST_VDB_CPUS"] == "3,5"
        assert lease.env["CUDA_VISIBLE_DEVICES"] == ""
        assert lease.processes() == set()
        with pytest.raises(InfraError, match="did not become free"):
            Lease(1, CORES, wait=0, folder=tmp_path, kind="cpu").__enter__()
    with Lease(1, CORES, wait=0, folder=tmp_path, kind="cpu") as one:
        assert one.devices == ("cpu3",)


def test_work_that_shares_the_cores_leases_none():
    with Lease(0, kind="cpu") as lease:
        assert lease.env == {"CUDA_VISIBLE_DEVICES": ""}


def test_more_cores_than_there_are_is_an_error():
    count = len(usable_cores()) + 1
    with (
        pytest.raises(InfraError, match=rf"{count} CPU cores are needed"),
        Lease(count, kind="cpu"),
    ):
        pass


def test_a_process_keeps_to_its_cores(tmp_path):
    code = "import os; from pytest_vdb.parallel.lease import pin; pin(); " + (
        "print(sorted(os.sched_getaffinity(0)))"
    )
    with Lease(1, usable_cores()[-1:], folder=tmp_path, kind="cpu") as lease:
        env = {**os.environ, **lease.env}
        seen = subprocess.check_output([sys.executable, "-c", code], env=env, text=True)
        assert seen.strip() == f"[{lease.env['PYTEST_VDB_CPUS']}]"


@pytest.mark.parametrize(("kind", "devices"), [("cuda", TWO), ("cpu", CORES)])
def test_several_devices_come_with_a_place_to_meet(tmp_path, kind, devices):
    with Lease(2, devices, folder=tmp_path, kind=kind) as lease:
        assert lease.env["MASTER_ADDR"] == "127.0.0.1"
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", int(lease.env["MASTER_PORT"])))
    with Lease(1, devices, folder=tmp_path, kind=kind) as one:
        assert "MASTER_PORT" not in one.env
