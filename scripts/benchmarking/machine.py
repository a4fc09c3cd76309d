"""What measured: machine, versions, commit and threads."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from benchmarking.clock import counts_processor
from benchmarking.place import ROOT

PACKAGES = "torch torchvision captum grad-cam torchcam saliency zennit quantus numpy scipy timm".split()


def facts(device: str, seconds: float, options: str) -> dict[str, str]:
    """Words for the head of the page."""
    return {
        "machine": f"{_processor()}, {os.cpu_count()} cores, {_memory()}, {platform.system()}",
        "device": torch.cuda.get_device_name(device) if device.startswith("cuda") else "cpu",
        "threads": "one thread (processor time)" if counts_processor(device) else f"{torch.get_num_threads()} threads",
        "versions": ", ".join([f"python {platform.python_version()}", *(_version(name) for name in PACKAGES)]),
        "commit": _git("rev-parse", "--short", "HEAD")
        + (" with changes" if _git("status", "--porcelain", "-uno") else ""),
        "command": f"python scripts/benchmark.py {options}".strip(),
        "took": f"{seconds / 60:.1f} minutes",
    }


def _processor() -> str:
    place = Path("/proc/cpuinfo")
    lines = place.read_text().splitlines() if place.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _memory() -> str:
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 0
    return f"{pages / 2**30:.0f} GiB"


def _version(name: str) -> str:
    try:
        return f"{name} {version(name)}"
    except PackageNotFoundError:
        return f"{name} absent"


def _git(*words: str) -> str:
    return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True).stdout.strip()
