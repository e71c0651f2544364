"""One line about the machine and the day: every figure is printed under it."""

from __future__ import annotations

import datetime
import os
import platform

import torch


def machine() -> str:
    """Processor, cores, threads, versions, date."""
    name = platform.processor() or platform.machine()
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            name = next((line.split(":")[1].strip() for line in file if line.startswith("model name")), name)
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return (
        f"{name}, {os.cpu_count()} cores{gpu}; torch {torch.__version__}, {torch.get_num_threads()} threads, "
        f"Python {platform.python_version()}; {datetime.date.today()}"
    )
