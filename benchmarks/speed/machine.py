"""What the figures depend on beside the code: the machine and the versions."""

from __future__ import annotations

import os
import platform
from datetime import date
from importlib.metadata import version
from pathlib import Path

PACKAGES = (
    *("llama-index-adapters", "llama-index-core", "numpy", "torch", "faiss-cpu"),
    "sentence-transformers",
)


def about() -> dict[str, str]:
    """Return the machine, the versions and the date, by name."""
    from benchmarks.speed.process import in_process

    return {
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB",
        "system": platform.system(),
        "load average at the start": f"{os.getloadavg()[0]:.1f}",
        "BLAS of numpy": in_process(f"{__name__}:blas_kernel").value,
        "Python": platform.python_version(),
        **{package: version(package) for package in PACKAGES},
        "date": date.today().isoformat(),
    }


def blas_kernel() -> str:
    """Return which kernels numpy multiplies with in this process, and with how many threads."""
    import numpy  # noqa: F401  # loads its BLAS
    from threadpoolctl import threadpool_info

    return ", ".join(
        f"{library['internal_api']} {library['version']}, kernels for {library['architecture']}, "
        f"threads: {library['num_threads']}"
        for library in threadpool_info()
        if library["user_api"] == "blas"
    )


def _processor() -> str:
    names = Path("/proc/cpuinfo")
    if names.exists():
        for line in names.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
