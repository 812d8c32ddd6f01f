"""How a command exits: one line per error, printed by one process, and an exit code."""

from __future__ import annotations

import os
import re
import select
import shlex
import signal
import sys
import threading
import time
from typing import NoReturn

import click

from wdistill.errors import PeerError, ProcessError, WdistillError

LOST = re.compile(r"onnection (closed|reset|refused)|[Bb]roken pipe|NCCL|gloo", re.ASCII)
PATIENCE, RESEND_AFTER = 2.0, 0.1  # seconds
SIGNALS = (signal.SIGINT, signal.SIGTERM)
COMMAND = "WDISTILL_COMMAND"  # in the environment of launched processes: what the user typed


def command_line() -> str:
    return os.environ.get(COMMAND) or shlex.join(["wdistill", *sys.argv[1:]])


def without_part(command: str) -> str:
    """The command of the full run for a shard's ``command``: without --shard and --output."""
    arguments: list[str] = []
    words = iter(shlex.split(command))
    for word in words:
        if word in ("--shard", "--output"):
            next(words, None)
        elif not word.startswith(("--shard=", "--output=")):
            arguments.append(word)
    return shlex.join(arguments)


def is_launched() -> bool:
    """Whether `wdistill --num-processes` started this process, and reports its exit."""
    return COMMAND in os.environ


def is_main_process() -> bool:
    return _rank() == 0


def _rank() -> int:
    rank = os.environ.get("RANK", "")
    return int(rank) if rank.isdecimal() else 0


def listen() -> None:
    """Let Ctrl-C and a scheduler's SIGTERM stop the command; a second one kills it at once."""
    for number in SIGNALS:
        if signal.getsignal(number) != signal.SIG_IGN:  # as in the background of a shell
            signal.signal(number, _stop)
    sys.unraisablehook = _resend_signal


def _resend_signal(arguments: sys.UnraisableHookArgs) -> None:
    """Send a signal again if it arrived where no exception can propagate, as in ``__del__``."""
    error = arguments.exc_value
    if not (isinstance(error, KeyboardInterrupt) and error.args and error.args[0] in SIGNALS):
        sys.__unraisablehook__(arguments)
        return
    signal.signal(error.args[0], _stop)
    timer = threading.Timer(RESEND_AFTER, os.kill, (os.getpid(), error.args[0]))
    timer.daemon = True
    timer.start()


def _stop(number: int, _: object) -> None:
    signal.signal(number, signal.SIG_DFL)
    raise KeyboardInterrupt(number)


def stopped_by() -> int | None:
    """The signal that :func:`listen` has received; None if there was none."""
    return next((n for n in SIGNALS if signal.getsignal(n) == signal.SIG_DFL), None)


def _leave(code: int) -> NoReturn:
    """Exit. One of several processes skips the interpreter's shutdown, because the threads of an
    active process group would turn it into SIGABRT.
    """
    if "RANK" not in os.environ:
        sys.exit(code)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def interrupt(number: int) -> NoReturn:
    """Print how to resume, and exit with 128 + the signal's number, as shells expect."""
    if not is_launched():  # else the process that launched this one says so
        click.echo(f"\nInterrupted. To go on: {command_line()}", err=True)
    _leave(128 + number)


def hang_up_if_unread() -> None:
    """Exit as other programs do, without a word, if whoever read the output has closed it, as
    `head` does.
    """
    streams = select.poll()
    for stream in (sys.stdout, sys.stderr):
        streams.register(stream, select.POLLOUT)
    closed = [number for number, events in streams.poll(0) if events & select.POLLERR]
    for number in closed:  # what is still to be written would be an error at the end
        os.dup2(os.open(os.devnull, os.O_WRONLY), number)
    if closed:
        _leave(128 + signal.SIGPIPE)


def signal_of(error: BaseException) -> int:
    """The signal that caused ``error``; `click` turns KeyboardInterrupt into Abort."""
    arguments = (error.__cause__ or error).args
    return int(arguments[0]) if arguments else signal.SIGINT


def usage_message(error: click.ClickException) -> str:
    """A usage error of `click` as one line that refers to --help."""
    text = " ".join(error.format_message().split()).rstrip(".")
    text = re.sub(r"\.? \(?Did you mean (.+?)\?\)?$", r" (did you mean \1?)", text)
    context = getattr(error, "ctx", None)
    return f"{text}; see '{context.command_path if context else 'wdistill'} --help'"


def _out_of_memory(error: Exception) -> bool:
    if not isinstance(error, RuntimeError):
        return False
    from wdistill.core.devices import is_out_of_memory

    return is_out_of_memory(error)


def fail(error: Exception, debug: bool, code: int) -> None:
    """Print one line on ``error`` and exit with ``code``; with ``debug``, raise it."""
    if debug:
        raise error
    text = " ".join(str(error).split())
    rank, expected = _rank(), isinstance(error, WdistillError)
    connection_lost = isinstance(error, PeerError) or (
        LOST.search(text) and "RANK" in os.environ and not expected
    )
    ended = signal.getsignal(signal.SIGTERM) == signal.SIG_DFL  # by the launcher, see _stop
    told = error.told if isinstance(error, PeerError) else True
    if connection_lost and (is_launched() or (ended and told)):
        _leave(PeerError.exit_code)  # the failed process or the launcher reports the reason
    if connection_lost or rank > 0:
        try:  # one report of a common failure is enough; torchrun ends the others
            time.sleep(3 * PATIENCE if connection_lost else PATIENCE)
        except KeyboardInterrupt:
            if not (told or is_launched()):
                click.echo(f"\nError: process {rank + 1}: {text}", err=True)
            _leave(PeerError.exit_code if connection_lost else code)
    if connection_lost:
        text = text if isinstance(error, PeerError) else str(PeerError())
    elif "No space left" in text:
        text = (
            f"no space left on the device ({text}); free some space and run the same command again"
        )
    elif _out_of_memory(error):
        text = (
            f"the device is out of memory ({text[:120]}); lower --resolution or --ipc, or choose a "
            "smaller --backbone or --student"
        )
    elif not expected:
        text = f"{type(error).__name__}: {text} (a defect of wdistill? --debug shows where)"
    if rank or isinstance(error, ProcessError):
        click.echo(err=True)  # the main process may have left an unfinished bar
    click.echo(f"Error: {f'process {rank + 1}: ' if rank else ''}{text}", err=True)
    _leave(code)
