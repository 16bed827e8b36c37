"""Energy from counters: RAPL from files as Linux writes them, NVML where a GPU is."""

from __future__ import annotations

import importlib.util
import json
import math
import time
from pathlib import Path

import pytest

from pytest_vdb.errors import BadSetting, Unmeasured
from pytest_vdb.measure.carbon import grams, intensity
from pytest_vdb.measure.energy import Meters, RaplMeter, meters_for, net, used
from pytest_vdb.parallel.lease import visible_devices

RANGE = 262_143_328_850  # microjoules: of a Xeon, and of most processors of Intel


def zone(root: Path, number: str, name: str, energy: int = 5_000_000) -> Path:
    """One powercap zone, with the files that are read of it, as the kernel writes them."""
    folder = root / f"intel-rapl:{number}"
    folder.mkdir(parents=True)
    for file, text in (("name", name), ("max_energy_range_uj", RANGE), ("energy_uj", energy)):
        (folder / file).write_text(f"{text}\n")
    return folder


def add(folder: Path, joules: float) -> None:
    counter = folder / "energy_uj"
    counter.write_text(f"{(int(counter.read_text()) + round(joules * 1e6)) % (RANGE + 1)}\n")


@pytest.fixture
def server(tmp_path: Path) -> Path:
    """Two sockets: cores inside the packages, memory beside them."""
    for socket in ("0", "1"):
        zone(tmp_path, socket, f"package-{socket}")
        zone(tmp_path, f"{socket}:0", "core")
        zone(tmp_path, f"{socket}:1", "dram")
    return tmp_path


def test_packages_and_their_memory_are_read_and_nothing_twice(server: Path) -> None:
    zone(server, "2", "psys")  # the whole board, packages included
    (server / "intel-rapl-mmio:0").mkdir()  # package 0 again, by another door
    meters = meters_for("cpu", server)
    assert meters.reason == ""
    names = {"cpu-package-0", "cpu-package-1", "cpu-package-0-dram", "cpu-package-1-dram"}
    assert meters.read().keys() == names
    with meters:
        add(server / "intel-rapl:0", 2.5)
        add(server / "intel-rapl:1:1", 0.5)
        for number in ("1", "0:1"):
            add(server / f"intel-rapl:{number}", 1)
        add(server / "intel-rapl:0:0", 100)
        add(server / "intel-rapl:2", 100)
        time.sleep(0.02)
    assert meters.missed == ""
    assert meters.joules == pytest.approx(
        {
            "cpu-package-0": 2.5,
            "cpu-package-1": 1,
            "cpu-package-0-dram": 1,
            "cpu-package-1-dram": 0.5,
        }
    )
    assert meters.seconds == pytest.approx(0.02, abs=0.02)


def test_a_counter_that_starts_anew(tmp_path: Path) -> None:
    package = zone(tmp_path, "0", "package-0", RANGE - 1_000_000)
    meters = meters_for("cpu", tmp_path)
    with meters:
        add(package, 3)
        time.sleep(0.02)
    assert meters.joules["cpu-package-0"] == pytest.approx(3, abs=1e-5)


def test_what_a_counter_cannot_say_is_unmeasured(tmp_path: Path) -> None:
    meter = RaplMeter("cpu-package-0", tmp_path, wrap=65_532.6)
    assert used(meter, 10, 12, 1) == 2
    for seconds, after, why in (
        (0.009, 12, "too short"),
        (200, 12, "starts anew every 65533 J"),
        (1, 10, "does not count"),
    ):
        with pytest.raises(Unmeasured, match=why):
            used(meter, 10, after, seconds)


def test_a_block_that_is_too_short_has_no_joules(server: Path) -> None:
    meters = meters_for("cpu", server)
    with meters:
        add(server / "intel-rapl:0", 1)
    assert meters.joules == {}
    assert "too short for the energy counter" in meters.missed


def test_a_counter_that_goes_away_in_the_block(server: Path) -> None:
    meters = meters_for("cpu", server)
    with meters:
        (server / "intel-rapl:0" / "energy_uj").unlink()
    assert meters.joules == {}
    assert "cannot be read any more" in meters.missed
    with pytest.raises(Unmeasured, match="energy_uj"):
        meters.read()
    assert meters.idle_power(0.01) == {}


def test_an_error_in_the_block_passes(server: Path) -> None:
    meters = meters_for("cpu", server)
    with pytest.raises(ZeroDivisionError), meters:
        raise ZeroDivisionError
    assert meters.joules == {}


def test_where_there_is_no_counter_the_reason_says_what_would_help(tmp_path: Path) -> None:
    absent = meters_for("cpu", tmp_path / "none")
    assert "intel_rapl_msr" in absent.reason
    with absent:
        pass
    assert (absent.joules, absent.missed) == ({}, absent.reason)
    assert absent.idle_power(0) == {}
    assert "mps" in meters_for("mps").reason


def test_one_unreadable_package_leaves_no_sum_of_the_rest(server: Path) -> None:
    counter = server / "intel-rapl:1" / "energy_uj"
    counter.unlink()
    counter.mkdir()  # root may read every file, so it is none
    meters = meters_for("cpu", server)
    assert meters.meters == ()
    assert f"{counter} cannot be read" in meters.reason
    assert "chmod a+r" in meters.reason


def test_idle_power_is_watts(tmp_path: Path) -> None:
    package = zone(tmp_path, "0", "package-0")

    class Busy(Meters):
        def read(self) -> dict[str, float]:
            add(package, 1)
            return super().read()

    meters = Busy(meters_for("cpu", tmp_path).meters)
    watts = meters.idle_power(0.05)
    assert watts == pytest.approx({"cpu-package-0": 1 / meters.seconds})


def test_net_of_idle_power() -> None:
    assert net({"gpu0": 500, "gpu1": 300}, {"gpu0": 70, "gpu1": 80}, 2) == {
        "gpu0": 360,
        "gpu1": 140,
    }
    with pytest.raises(Unmeasured, match="idle power of gpu1"):
        net({"gpu0": 500, "gpu1": 300}, {"gpu0": 70}, 2)
    with pytest.raises(Unmeasured, match="less than its idle power"):
        net({"gpu0": 100}, {"gpu0": 70}, 2)


@pytest.mark.skipif(not Path("/sys/class/powercap/intel-rapl:0").exists(), reason="needs RAPL")
def test_this_machines_processor() -> None:
    meters = meters_for("cpu")
    if meters.reason:
        assert "chmod" in meters.reason
        return
    watts = meters.idle_power(0.2)
    assert all(0.1 < power < 600 for power in watts.values())


@pytest.mark.skipif(bool(visible_devices()), reason="needs a machine without a GPU")
def test_without_a_gpu() -> None:
    for device in ("cuda", "cuda:0"):
        meters = meters_for(device)
        assert meters.meters == ()
        assert "nvidia-smi" in meters.reason


@pytest.mark.skipif(not visible_devices(), reason="needs an NVIDIA GPU")
def test_a_gpus_counter() -> None:
    import torch

    meters = meters_for("cuda:0")
    assert meters.reason == ""
    idle = meters.idle_power()
    assert 5 < idle["gpu0"] < 400
    matrix = torch.randn(8192, 8192, device="cuda:0", dtype=torch.bfloat16)
    with meters:
        end = time.perf_counter() + 2
        while time.perf_counter() < end:
            matrix = torch.nn.functional.normalize(matrix @ matrix)
            torch.cuda.synchronize()
    assert meters.missed == ""
    over = net(meters.joules, idle, meters.seconds)
    assert over["gpu0"] > 0.5 * idle["gpu0"] * meters.seconds
    with meters:
        pass
    assert "too short" in meters.missed


# ------------------------------------------------------------------ carbon


def test_grams() -> None:
    assert grams(3.6e6, 380) == 380
    assert grams(28_600, 400) == pytest.approx(3.178, abs=1e-3)


def test_a_number_is_the_grids_intensity() -> None:
    assert intensity("56") == 56
    for wrong in ("0", "-3", "nan", "inf"):
        with pytest.raises(BadSetting, match="above 0"):
            intensity(wrong)


def test_a_country_is_looked_up_in_codecarbons_table(tmp_path: Path) -> None:
    table = tmp_path / "global_energy_mix.json"
    row = {"carbon_intensity": 380.95, "country_name": "Germany", "iso_code": "DEU", "year": 2023}
    table.write_text(json.dumps({"DEU": row}))
    assert intensity("DEU", table) == intensity("deu", table) == 380.95
    with pytest.raises(BadSetting, match="'DEU'"):
        intensity("DEX", table)
    with pytest.raises(BadSetting, match="three letters"):
        intensity("Germany", table)
    table.write_text("[]")
    with pytest.raises(BadSetting, match="give grams"):
        intensity("DEU", table)


@pytest.mark.skipif(importlib.util.find_spec("codecarbon") is None, reason="needs codecarbon")
def test_codecarbons_own_table() -> None:
    assert 0 < intensity("NOR") < intensity("POL") < 1000


@pytest.mark.skipif(importlib.util.find_spec("codecarbon") is not None, reason="has codecarbon")
def test_a_country_without_codecarbon_is_refused() -> None:
    with pytest.raises(BadSetting, match="pip install codecarbon"):
        intensity("DEU")
    assert not math.isnan(intensity("380"))
