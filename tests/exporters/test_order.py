"""Equal networks give equal files, in any process."""

from __future__ import annotations

import subprocess
import sys

CODE = """
import hashlib, torch
from metanas.exporters import Source
from metanas.exporters.weights import weights_bytes
from metanas.network import derived
from metanas.space import NEEDED, Space, chain, op
space = Space(chain(("conv", op("conv", width=2, kernel=3, norm="batch")), ("head", op("classifier", width=NEEDED))))
source = Source(space.architecture({}), "tiny", ("caf\u00e9", "b"), (0.5,), (1.0,), (0.0, 1.0))
print(hashlib.sha256(weights_bytes(derived(space, {}, (1, 4, 4), 2), source, "tiny")).hexdigest())
"""


def test_the_same_network_is_the_same_file() -> None:
    """safetensors orders its facts by a hash that differs by process."""
    codes = [subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True) for _ in range(2)]
    assert all(done.returncode == 0 for done in codes), codes[0].stderr
    assert codes[0].stdout == codes[1].stdout
