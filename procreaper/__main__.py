"""The program: ``procreaper`` and ``python -m procreaper``."""

# This comes first, because until then Ctrl-C has Python's own handler, which prints a traceback. The import of `signal`
# would take longer.
import _signal  # type: ignore[import-not-found]

if _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:
    # If it is ignored (in the background of a script), leave it so, also for the command of `run`.
    _signal.signal(_signal.SIGINT, _signal.SIG_DFL)

import sys

if __name__ == "__main__" and not sys.flags.safe_path:
    # With `-m`, the current directory comes first in the path. Do not import its files, such as a `signal.py`.
    del sys.path[0]

import contextlib
import gc
import io
import os
import signal


def main() -> None:
    """Run the command line, and exit with its status."""
    # If it is ignored, the kernel discards the exit status of a child.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    if sys.getfilesystemencoding() != "utf-8":
        _change_to_utf8()
    if not sys.flags.dev_mode:
        # After an error, the garbage collector may find, for example, an unfinished event loop. Do not print its
        # traceback below our message.
        sys.unraisablehook = lambda _: None
    _open_standard_streams()
    # Imports create no garbage, and the search for it takes a tenth of the time until the first child. `start` enables
    # the collector again.
    gc.disable()
    from procreaper.cli.main import execute

    status = execute(sys.argv[1:])
    # Exit without the shutdown of the interpreter. That takes ten milliseconds, could hang on a blocked writer, and a
    # late Ctrl-C would get Python's own handler.
    os._exit(status)


def _change_to_utf8() -> None:
    """Restart the program in Python's UTF-8 mode, for a locale with another encoding.

    The project's files are in UTF-8. Without this mode, Python can neither print their text nor pass it to a process.
    With it, other bytes pass through as well. The environment does not change, neither ours nor that of the children.
    """
    if sys.flags.utf8_mode or not sys.executable or sys.argv[0] in ("", "-") or getattr(sys, "frozen", False):
        return
    with contextlib.suppress(OSError):
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])


def _open_standard_streams() -> None:
    """Open /dev/null in place of each closed standard stream, for us and our children.

    Otherwise, the next file that is opened would become the standard output.
    """
    for descriptor, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(descriptor)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(descriptor, mode, closefd=False))
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        # Write a character that the encoding lacks as an escape, as on standard error.
        sys.stdout.reconfigure(errors="backslashreplace")


if __name__ == "__main__":
    main()
