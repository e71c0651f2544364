"""Commands in processes of their own that start in milliseconds: a server imports torch once and forks for each.

    commands = Commands()                       the server starts, some seconds
    job = commands.start(["search"], cwd)       forks; the child is `metanas search`, with its own streams and signals
    job.kill(signal.SIGKILL); job.wait()        its exit status: -9

Run as a script, this file is the server: it reads one JSON line a request and answers with one.
"""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass
class Job:
    """A command at work, or over."""

    server: Commands
    pid: int
    out: Path
    err: Path
    code: int | None = None

    def kill(self, number: int) -> None:
        os.kill(self.pid, number)

    def over(self) -> bool:
        """Whether it has ended; does not wait."""
        if self.code is None:
            self.code = self.server.ask(wait=self.pid, hang=False)["code"]
        return self.code is not None

    def wait(self) -> int:
        """The exit status; minus the number of the signal that ended it."""
        if self.code is None:
            self.code = self.server.ask(wait=self.pid, hang=True)["code"]
        assert self.code is not None
        return self.code

    def until(self, condition: Callable[[], bool], seconds: float = 60.0) -> None:
        """Waits until something holds; fails where the command ends before, or after that time."""
        end = time.monotonic() + seconds
        while not condition():
            assert not self.over(), f"it ended with {self.code}: {self.errors}"
            assert time.monotonic() < end, f"still waiting after {seconds} s: {self.output}{self.errors}"
            time.sleep(0.003)

    @property
    def output(self) -> str:
        return self.out.read_text(encoding="utf-8", errors="replace")

    @property
    def errors(self) -> str:
        return self.err.read_text(encoding="utf-8", errors="replace")


class Commands:
    """The client; `close` ends the server."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.count = folder, 0
        self.process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"},
        )

    def ask(self, **request: Any) -> Any:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def start(
        self,
        arguments: Sequence[str],
        cwd: Path,
        env: dict[str, str] | None = None,
        *,
        terminal: str | None = None,
        unread: bool = False,
        endless: bool = False,
    ) -> Job:
        """Forks for `metanas *arguments`.

        Args:
            terminal: the path of a terminal to write to, in place of files.
            unread: standard output is a pipe that nobody reads.
            endless: the first step of a search takes a minute, whatever the machine.
        """
        self.count += 1
        out, err = (self.folder / f"{self.count}.{kind}" for kind in ("out", "err"))
        out.touch(), err.touch()
        streams = [terminal, terminal] if terminal else [str(out), str(err)]
        facts = {"env": env or {}, "streams": streams, "unread": unread, "endless": endless}
        asked = self.ask(arguments=list(arguments), cwd=str(cwd), **facts)
        return Job(self, asked["pid"], out, err)

    def run(self, arguments: Sequence[str], cwd: Path, env: dict[str, str] | None = None) -> Job:
        """The same, and waits for its end."""
        job = self.start(arguments, cwd, env)
        job.wait()
        return job

    def close(self) -> None:
        self.process.communicate()


def serve() -> None:
    import torch

    import metanas.api
    import metanas.cli.app
    import metanas.recipe
    from metanas.api.handed import Handed
    from metanas.api.work import prepare
    from metanas.recipe import Recipe

    torch.set_num_threads(1)  # a pool of threads would not live on in a child
    for package in (metanas.api, metanas.recipe):
        for name in package.__all__:
            getattr(package, name)  # names are loaded when they are used: once, here
    prepare(Recipe(), None, None, Handed())  # loads what is loaded when it is first used
    for line in sys.stdin:
        request = json.loads(line)
        if "wait" in request:
            pid, status = os.waitpid(request["wait"], 0 if request["hang"] else os.WNOHANG)
            answer = {"code": os.waitstatus_to_exitcode(status) if pid else None}
        else:
            pid = os.fork()
            if pid == 0:
                child(metanas.cli.app.main, request)
            answer = {"pid": pid}
        print(json.dumps(answer), flush=True)


def child(main: Callable[[], None], request: dict[str, Any]) -> None:
    """Becomes the command; never returns."""
    code: Any = 1
    try:
        os.setsid()
        os.chdir(request["cwd"])
        os.environ.update(request["env"])
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for number, path in enumerate([os.devnull, *request["streams"]]):
            descriptor = os.open(path, os.O_WRONLY | os.O_NOCTTY if number else os.O_RDONLY)
            os.dup2(descriptor, number)
            os.close(descriptor)
        if request["unread"]:
            reader, writer = os.pipe()
            os.dup2(writer, 1)
            os.close(writer)
            os.close(reader)
        encoding = os.environ.get("PYTHONIOENCODING", "utf-8")
        sys.stdin = io.TextIOWrapper(io.FileIO(0, closefd=False))
        sys.stdout = io.TextIOWrapper(io.BufferedWriter(io.FileIO(1, "w", closefd=False)), encoding)
        sys.stderr = io.TextIOWrapper(
            io.BufferedWriter(io.FileIO(2, "w", closefd=False)), encoding, "backslashreplace", line_buffering=True
        )
        sys.argv = ["metanas", *request["arguments"]]
        if request["endless"]:
            from metanas.loop import GradientSearch

            GradientSearch._train = lambda *_: time.sleep(60)  # type: ignore[method-assign, assignment]
        main()
        code = 0
    except SystemExit as end:
        code = 0 if end.code is None else end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        try:
            sys.stdout.flush()
        except OSError:
            print("Exception ignored: the last flush failed", file=sys.stderr)
        os._exit(code)


if __name__ == "__main__":
    serve()
