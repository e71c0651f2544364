"""How soon a search over a table of 15,625 architectures evaluates the first of them, and what it takes of memory.

    METANAS_DATA=folder python benchmarks/table_start.py [--rounds 7] [--beside CHECKOUT]

    way        first evaluation    quickest    end       processor    peak memory
    command    0.61 s              0.57 s      0.72 s    0.66 s       74 MB

From the start of the process, which writes a run folder as any search does, to the first event of a value in its log,
and to the end of 100 evaluations; processor seconds say what other jobs on the machine had no part in. The peak is what
the kernel says of the process. `--beside`: a checkout of another version, measured in turn with this one. Goal: the
first evaluation in under a second, in under 200 MB.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from metanas.run import read_events

GOAL_SECONDS, GOAL_MEGABYTES = 1.0, 200
HERE = Path(__file__).parent.parent
CHOOSE, REPORT, BUDGET = "cifar10_valid_12_epochs", "cifar10_test", 100
CALL = (
    "import metanas; metanas.search_by_value('nasbench201', {table!r}, "
    f"choose={CHOOSE!r}, report={REPORT!r}, budget={BUDGET}, run='first')"
)
Row = tuple[float, float, float, float]
"""Seconds to the first evaluation, to the end, of the processor; megabytes."""


def command(way: str, table: Path) -> list[str]:
    if way == "python":
        return [sys.executable, "-c", CALL.format(table=str(table))]
    words = [f"--choose={CHOOSE}", f"--report={REPORT}", f"--budget={BUDGET}", "--run=first"]
    return [sys.executable, "-m", "metanas", "table", str(table), *words]


def measured(way: str, table: Path, checkout: Path) -> Row:
    """One search in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "PYTHONPATH": str(checkout)}
        started, begun = time.time(), time.perf_counter()
        child = subprocess.Popen(command(way, table), cwd=folder, env=environment, stdout=subprocess.DEVNULL)
        _, status, used = os.wait4(child.pid, 0)
        ended = time.perf_counter() - begun
        if status:
            raise SystemExit(f"{way} of {checkout} failed")
        events = read_events(Path(folder, "runs", "first", "events.jsonl")).events
        first = next(event["at"] for event in events if event["kind"] == "value")
    peak = used.ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    return first - started, ended, used.ru_utime + used.ru_stime, peak


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--beside", type=Path)
    arguments = parser.parse_args()
    if "METANAS_DATA" not in os.environ:
        print("set METANAS_DATA to the folder with nasbench201.csv.gz", file=sys.stderr)
        return 2
    table = Path(os.environ["METANAS_DATA"]).resolve() / "nasbench201.csv.gz"
    checkouts = {"": HERE, **({} if arguments.beside is None else {"beside: ": arguments.beside.resolve()})}
    rows: dict[str, list[Row]] = {}
    for k in range(arguments.rounds + 1):
        for label, checkout in checkouts.items():
            for way in ("command", "python"):
                row = measured(way, table, checkout)
                if k:  # the first writes what Python keeps of its modules
                    rows.setdefault(label + way, []).append(row)
    from machine import machine  # torch: before, the kernel would count it as the children's memory

    print(machine())
    width = max(map(len, rows))
    print(f"{'way':<{width}}    first evaluation    quickest    end       processor    peak memory")
    for name, found in rows.items():
        first, end, processor, peak = (statistics.median(column) for column in zip(*found, strict=True))
        late = "" if first < GOAL_SECONDS and peak < GOAL_MEGABYTES else "   over the goal"
        times = f"{first:.2f} s              {min(row[0] for row in found):.2f} s      {end:.2f} s    {processor:.2f} s"
        print(f"{name:<{width}}    {times}       {peak:.0f} MB{late}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
