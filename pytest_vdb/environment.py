"""What machine and software this is, without importing torch.

The identity decides comparability and is allow-listed; facts are shown and decide nothing.
"""

from __future__ import annotations

import os
import platform
import re
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from pytest_vdb.errors import InfraError
from pytest_vdb.records import Environment

KERNEL_PACKAGES = ("flash-attn", "xformers", "sageattention", "triton")


def package(name: str) -> str:
    """Installed version of a distribution, or an empty string."""
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def release(text: str, parts: int = 2) -> str:
    """``2.13`` of ``2.13.0+cpu``: what usually decides which kernels run."""
    return ".".join(text.split("+")[0].split(".")[:parts])


@lru_cache(maxsize=1)
def cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def cpu_count() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@lru_cache(maxsize=1)
def torch_cuda() -> str:
    """``cuda13.0``: what torch was built for, read from its ``version.py`` without importing it."""
    spec = find_spec("torch")
    if spec is None or spec.origin is None:
        return ""
    text = Path(spec.origin).with_name("version.py").read_text(encoding="utf-8")
    match = re.search(r"^cuda.*= '([\d.]+)'", text, re.MULTILINE)
    return f"cuda{match[1]}" if match else ""


@lru_cache(maxsize=1)
def gpus() -> tuple[tuple[str, str], ...]:
    """(name, driver version) of every GPU that NVML lists; empty without a driver.

    Raises InfraError where it lists one that it cannot reach.
    """
    try:
        import pynvml
    except ImportError:
        return ()
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return ()
    try:
        driver = _text(pynvml.nvmlSystemGetDriverVersion())
        handles = [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(pynvml.nvmlDeviceGetCount())]
        return tuple((_text(pynvml.nvmlDeviceGetName(h)), driver) for h in handles)
    except pynvml.NVMLError as exc:  # a GPU that fell off its bus is no machine without one
        raise InfraError(f"NVML cannot list this machine's GPUs: {exc}; see dmesg") from exc
    finally:
        pynvml.nvmlShutdown()


@lru_cache(maxsize=1)
def capabilities() -> tuple[str, ...]:
    """``sm_90`` and the like of every GPU that NVML lists, each once; empty without a driver."""
    if not gpus():
        return ()
    import pynvml

    pynvml.nvmlInit()
    try:
        handles = [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(pynvml.nvmlDeviceGetCount())]
        pairs = {tuple(pynvml.nvmlDeviceGetCudaComputeCapability(handle)) for handle in handles}
    except pynvml.NVMLError:
        return ()
    finally:
        pynvml.nvmlShutdown()
    return tuple(sorted(f"sm_{major}{minor}" for major, minor in pairs))


def architecture(device: str) -> str:
    """What kernels are compiled for: ``x86_64``, ``sm_90``; empty where it is not known."""
    if device == "cpu":
        return platform.machine()
    return "" if device == "endpoint" else "+".join(capabilities())


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


def resolve_device(wanted: str) -> str:
    """``cuda`` or ``cpu`` for ``auto``: a GPU where the driver and torch's build both have one."""
    if wanted != "auto":
        return wanted
    return "cuda" if gpus() and torch_cuda() else "cpu"


def _software() -> dict[str, str]:
    return {
        "torch": f"torch{release(package('torch'))}",
        "diffusers": f"diffusers{release(package('diffusers'))}",
    }


def quality_environment(device: str, count: int = 1) -> Environment:
    """Identity of a quality measurement: what moves pixels, without pool and driver.

    ``count`` is the number of devices that a model runs on. ``device`` may be ``"endpoint"``: a
    server whose machine and software are not known.
    """
    if device == "endpoint":
        return Environment({"device": device}, facts(device))
    identity = {"device": "cpu"}
    if device != "cpu":
        names = sorted({name for name, _ in gpus()})  # a mixed machine is a machine of its own
        identity = {
            "device": "+".join(names) or device,
            "count": f"{count}gpu",
            "cuda": torch_cuda(),
        }
        identity |= {name: f"{name}{v}" for name in KERNEL_PACKAGES if (v := package(name))}
    return Environment(identity | _software(), facts(device))


def performance_environment(
    device: str, pool: str = "", crowd: int = 0, count: int = 1
) -> Environment:
    """Identity of latency and memory: quality's, and the machine, driver, pool and crowding.

    ``crowd`` is the number of workers where they share a device and were allowed to (else 0).
    """
    quality = quality_environment(device, count)
    identity = dict(quality.identity)
    if device == "endpoint":
        pass  # nothing is known of the machine behind a URL but its pool
    elif device == "cpu":
        identity |= {"cpu": cpu_name(), "cores": f"{cpu_count()}c"}
    else:
        identity |= {"driver": "driver" + release(gpus()[0][1], 1) if gpus() else ""}
    identity |= {"ranks": f"{count}ranks"} if device == "cpu" and count > 1 else {}
    identity |= {"pool": pool} if pool else {}
    identity |= {"crowd": f"{crowd}workers"} if crowd else {}
    return Environment(identity, quality.facts)


def facts(device: str) -> dict[str, str]:
    """Shown beside a result, deciding nothing."""
    names = ("torch", "diffusers", "transformers", "numpy", "torchmetrics", "pytest-vdb")
    return {
        "device": device,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": f"{cpu_name()}, {cpu_count()} cores",
        "gpus": ", ".join(name for name, _ in gpus()),
        "architecture": architecture(device),
        **{name: package(name) for name in names},
    }
