"""A `python` that has imported the packages already: it forks from a process that has.

A test that starts a command pays for the command's work, not for importing torch and Lightning once
more. Command line, folder, environment, standard streams, exit status and signals are those of a
Python started anew, and so is `PYTHONPATH` with a `sitecustomize.py` on it. What tests the start
itself (imports, Ctrl-C during them, an installed wheel) takes `sys.executable`. `OMP_NUM_THREADS`
and `HF_HOME` are read by imports: here they are 1 and an empty folder, whatever a command is given.

    with warm_python(folder) as python:
        subprocess.run([python, "evaluate.py", "data.count=8"])

A client asks over a socket, the server forks one process that runs the program and one that waits
for it. The client passes signals on: Ctrl-C to all processes of the program, others to its first.
When what started the client is gone, the program sees its parent go as well.
"""

import atexit
import gc
import importlib
import importlib.util
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import types
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

IMPORTED = (
    *("var_exp.runs.config", "var_exp.runs.evaluation", "var_exp.training.from_scratch"),
    *("var_exp.explaining", "var_exp.figures", "var_exp.sweep", "wandb.apis.public"),
)
PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def warm_python(folder: Path) -> Iterator[str]:
    """Path of the `python`, in a folder of its own, while its server is at work."""
    python, address = folder / "python", folder / "socket"
    command = f'exec {sys.executable} -IS {__file__} ask {address} {sys.executable} "$@"'
    python.write_text(f"#!/bin/sh\n{command}\n")
    python.chmod(0o755)
    read, write = os.pipe()
    with subprocess.Popen(
        [sys.executable, __file__, "serve", str(address), str(python)],
        env=os.environ | {"OMP_NUM_THREADS": "1", "HF_HOME": str(folder / "empty")},
        stdin=read,
        stdout=subprocess.PIPE,
    ) as server:
        os.close(read)
        server.stdout.readline()  # it has imported
        yield str(python)
        os.close(write)


def worker_of(python: str, process: int) -> int:
    """The process that runs the program of a `python`; the same one where Python is cold."""
    file = Path(python).with_name(str(process))
    return int(file.read_text()) if file.exists() else process


def ask(address: str, cold: str, *words: str) -> None:
    """Let the server run a program, and end as it does."""
    words = words[words[:1] == ("-u",) :]  # when streams are flushed is no part of a test
    named_by_process = words[:2] == ("-m", "submitit.local._local")  # it imports little
    if named_by_process or not words or (words[0][:1] == "-" and words[0] not in ("-m", "-c")):
        os.execv(cold, [cold, *words])
    parent = os.getppid()
    request = json.dumps({"words": words, "cwd": str(Path.cwd()), "env": dict(os.environ)}).encode()
    with socket.socket(socket.AF_UNIX) as server:
        server.connect(address)
        socket.send_fds(server, [b"%16d" % len(request)], [0, 1, 2])
        server.sendall(request)
        worker = int(server.recv(16))
        Path(address).with_name(str(os.getpid())).write_text(str(worker))

        def pass_on(number: int, frame: object) -> None:
            (os.killpg if number == signal.SIGINT else os.kill)(worker, number)

        for number in PASSED_ON:
            if signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, pass_on)
        while not select.select([server], [], [], 0.1)[0]:
            if os.getppid() != parent:
                server.sendall(b"alone")
                os._exit(0)  # nobody is there to be told
        status = int(server.recv(16))
    if status < 0:
        signal.signal(-status, signal.SIG_DFL) if -status != signal.SIGKILL else None
        os.kill(os.getpid(), -status)
    os._exit(status)


def serve(address: str, python: str) -> None:
    """Fork for each client, until the standard input ends; in the fork, run its program."""
    sys.path.pop(0)  # this folder
    gc.disable()
    for module in IMPORTED:
        importlib.import_module(module)
    importlib.import_module("var_exp.runs.scoring_code").code_hash({})  # cached by source
    gc.freeze()  # else every fork looks through all of it, and so copies it
    gc.enable()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen()
        print(flush=True)
        while listener in select.select([listener, 0], [], [])[0]:
            client, _ = listener.accept()
            if os.fork() == 0:
                listener.close()
                break
            client.close()
            _reap()
        else:
            _reap()
            return
    program = _received(client)
    sys.executable = python
    status: object = None
    try:
        _run(*program)
    except SystemExit as end:
        status = end.code
    _end(status)


def _reap() -> None:
    """Let go of the processes that waited for a program and have ended."""
    with suppress(ChildProcessError):  # there is none
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _received(client: socket.socket) -> tuple[str, ...]:
    """Words of the command line, in a process that stands as the client does; others wait here."""
    length, streams, _, _ = socket.recv_fds(client, 16, 3)
    request = b""
    while len(request) < int(length):
        request += client.recv(2**16)
    worker = os.fork()
    if worker:
        for stream in (0, 1, 2, *streams):
            os.close(stream)
        client.sendall(b"%16d" % worker)
        ended = os.pidfd_open(worker)
        if ended not in select.select([client, ended], [], [])[0]:
            if client.recv(16):
                os._exit(0)
            os.killpg(worker, signal.SIGKILL)  # the client was killed
        status = os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1])
        client.sendall(b"%16d" % status)
        os._exit(0)
    client.close()
    for finalizer in list(weakref.finalize._registry):
        made = (finalizer.detach() or [None])[0]
        if isinstance(made, tempfile.TemporaryDirectory):
            atexit.unregister(made.cleanup)  # what the imports made is the server's to remove
    os.setsid()
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    given = json.loads(request)
    known = os.environ.get("PYTHONPATH", "")
    os.environ.clear()
    os.environ.update(given["env"])
    os.chdir(given["cwd"])
    added = os.environ.get("PYTHONPATH", "").removesuffix(known).split(os.pathsep)
    if added := [folder for folder in added if folder]:
        sys.path[:0] = added
        sys.modules.pop("sitecustomize", None)
        if importlib.util.find_spec("sitecustomize"):
            importlib.import_module("sitecustomize")
    return given["words"]


def _run(program: str, *words: str) -> None:
    """What Python does with its command line."""
    if program == "-c":
        code, *words = words
        sys.argv = ["-c", *words]
        sys.path.insert(0, "")
        main = sys.modules["__main__"] = types.ModuleType("__main__")
        exec(compile(code, "<string>", "exec"), vars(main))
    elif program == "-m":
        module, *words = words
        sys.argv = [module, *words]
        sys.path.insert(0, str(Path.cwd()))
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    else:
        sys.argv = [program, *words]
        sys.path.insert(0, str(Path(program).resolve().parent))
        runpy.run_path(program, run_name="__main__")


def _end(status: object) -> None:
    """What Python does at its end, without taking apart what the server imported (0.4 s)."""
    threading._shutdown()
    atexit._run_exitfuncs()
    with suppress(OSError):  # a reader that is gone is for Python itself to tell
        sys.stdout.flush()
        if status is None or isinstance(status, int):
            sys.stderr.flush()
            os._exit((status or 0) & 0xFF)
    sys.exit(status)


if __name__ == "__main__":
    {"ask": ask, "serve": serve}[sys.argv[1]](*sys.argv[2:])
