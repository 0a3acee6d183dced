"""procreaper: a Procfile-compatible process manager that supervises, as a command and as a library.

`__all__` lists the public names. Each is imported at its first use, because the command line needs none of them.
"""

# Not imported from `typing`, which takes 5 ms. Until SIGINT has its default action, Ctrl-C would print a traceback.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from procreaper.core.checks import ExecCheck, Health, HealthCheck, HTTPCheck, LogCheck, Target, TCPCheck
    from procreaper.core.events import (
        Checked,
        Exit,
        Message,
        Output,
        RestartReason,
        RunBegan,
        RunEnded,
        SignalSent,
        State,
        Transition,
    )
    from procreaper.core.plan import Backoff, Condition, Hooks, When
    from procreaper.core.status import Status
    from procreaper.errors import (
        ConfigError,
        NotReadyError,
        Problem,
        ProcreaperError,
        UnknownProcessError,
        UsageError,
    )
    from procreaper.library.process import Process
    from procreaper.library.reaper import Reaper
    from procreaper.output.subscription import Dropped, Subscription

__version__ = "0.1.0"

__all__ = [
    "Backoff",
    "Checked",
    "Condition",
    "ConfigError",
    "Dropped",
    "ExecCheck",
    "Exit",
    "HTTPCheck",
    "Health",
    "HealthCheck",
    "Hooks",
    "LogCheck",
    "Message",
    "NotReadyError",
    "Output",
    "Problem",
    "Process",
    "ProcreaperError",
    "Reaper",
    "RestartReason",
    "RunBegan",
    "RunEnded",
    "SignalSent",
    "State",
    "Status",
    "Subscription",
    "TCPCheck",
    "Target",
    "Transition",
    "UnknownProcessError",
    "UsageError",
    "When",
]

_MODULES = {
    "core.checks": ("ExecCheck", "HTTPCheck", "Health", "HealthCheck", "LogCheck", "TCPCheck", "Target"),
    "errors": ("ConfigError", "NotReadyError", "Problem", "ProcreaperError", "UnknownProcessError", "UsageError"),
    "core.events": (
        *("Checked", "Exit", "Message", "Output", "RestartReason", "RunBegan", "RunEnded", "SignalSent", "State"),
        "Transition",
    ),
    "library.reaper": ("Reaper",),
    "output.subscription": ("Dropped", "Subscription"),
    "core.plan": ("Backoff", "Condition", "Hooks", "When"),
    "library.process": ("Process",),
    "core.status": ("Status",),
}


def __getattr__(name: str) -> object:
    for module, names in _MODULES.items():
        if name in names:
            from importlib import import_module

            return getattr(import_module(f"procreaper.{module}"), name)
    raise AttributeError(f"module `procreaper` has no attribute `{name}`")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
