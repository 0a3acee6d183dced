"""The program: ``procreaper`` and ``python -m procreaper``."""

# Before all else, and not `signal`, whose import takes longer: Ctrl-C has Python's own handler until then, and that
# prints a traceback.
import _signal  # type: ignore[import-not-found]

if _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:
    # Where it is ignored (in the background of a script) it stays so, for the command of `run` too.
    _signal.signal(_signal.SIGINT, _signal.SIG_DFL)

import sys

if __name__ == "__main__" and not sys.flags.safe_path:
    # With `-m` the project stands first on the path: a file `signal.py` of it is not meant for us.
    del sys.path[0]

import contextlib
import gc
import io
import os
import signal


def main() -> None:
    """Run the command line and end the process with its exit status."""
    # Where it is ignored, the kernel forgets how a child ended.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    if sys.getfilesystemencoding() != "utf-8":
        _change_to_utf8()
    if not sys.flags.dev_mode:
        # What is collected after an error, such as half an event loop, would add its traceback to our message.
        sys.unraisablehook = lambda _: None
    _open_standard_streams()
    # Nothing that an import makes is garbage, and looking for it costs a tenth of the time until the first child.
    # `start` turns it on again.
    gc.disable()
    from procreaper.cli.main import execute

    status = execute(sys.argv[1:])
    # At once, without tearing down the interpreter: that takes ten milliseconds, a writer may be blocked for good, and
    # a late Ctrl-C would find Python's own handler.
    os._exit(status)


def _change_to_utf8() -> None:
    """Start the program once more, in Python's UTF-8 mode, where the locale has another encoding.

    The project's files are in UTF-8. Without that mode Python can neither pass their text on to a process nor print it;
    with it, all other bytes pass through as well. The environment stays as it is, for our children too.
    """
    if sys.flags.utf8_mode or not sys.executable or sys.argv[0] in ("", "-") or getattr(sys, "frozen", False):
        return
    with contextlib.suppress(OSError):
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])


def _open_standard_streams() -> None:
    """Put /dev/null where a standard stream is closed, for our children too.

    Otherwise the next file that somebody opens would become the standard output.
    """
    for descriptor, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(descriptor)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(descriptor, mode, closefd=False))
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        # What the encoding of the terminal does not have is written as an escape, as on standard error.
        sys.stdout.reconfigure(errors="backslashreplace")


if __name__ == "__main__":
    main()
