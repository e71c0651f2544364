"""The run folder: its name, its records, its lock.  Standard library only; `metanas.run.tensors` knows torch."""

from metanas.run.atomic import dump_json, finite, parse_json, read_json, remove_leftovers, write_bytes, write_json
from metanas.run.events import EventLog, EventTail, EventWriter, last_events, latest, parse_events, read_events
from metanas.run.folder import RunFolder, check_schema
from metanas.run.lock import Holder, Lock, is_alive, read_holder
from metanas.run.names import check_name, is_name, next_name, run_path, runs_root
from metanas.run.requests import ask, pending, withdraw
from metanas.run.summary import COMPARISON, RunSummary, list_runs, summarise

__all__ = [
    "COMPARISON",
    "EventLog",
    "EventTail",
    "EventWriter",
    "Holder",
    "Lock",
    "RunFolder",
    "RunSummary",
    "ask",
    "check_name",
    "check_schema",
    "dump_json",
    "finite",
    "is_alive",
    "is_name",
    "last_events",
    "latest",
    "list_runs",
    "next_name",
    "parse_events",
    "parse_json",
    "pending",
    "read_events",
    "read_holder",
    "read_json",
    "remove_leftovers",
    "run_path",
    "runs_root",
    "summarise",
    "withdraw",
    "write_bytes",
    "write_json",
]
