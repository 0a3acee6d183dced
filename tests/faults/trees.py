"""Commands for a Procfile that leave processes behind in all known ways. Each prints `ready` when it is up."""

from __future__ import annotations

# Ignores all stop signals.
STUBBORN = "trap '' TERM INT HUP QUIT; echo ready; while :; do sleep 600; done"
# In its own session, with a living parent; and with a parent that has ended.
SETSID = "setsid sh -c 'echo ready; exec sleep 600' & wait"
DOUBLE_FORK = "(setsid sh -c 'echo ready; exec sleep 600' &); exec sleep 600"
# Like a daemon, it has closed all inherited descriptors.
CLOSED = "(setsid sh -c 'echo ready; exec sleep 600 <&- >&- 2>&-' &); exec sleep 600"
STUBBORN_ESCAPEE = f'(setsid sh -c "{STUBBORN}" &); exec sleep 600'
TREE = f'sh -c "{STUBBORN}" & sh -c "sh -c \'sleep 600; :\'; :" & wait'
STOPPED = "sh -c 'echo ready; kill -STOP $$; exec sleep 600' & wait"
STOPPED_ESCAPEE = "(setsid sh -c 'echo ready; kill -STOP $$; exec sleep 600' &); exec sleep 600"

ALL = {
    "stubborn": STUBBORN,
    "setsid": SETSID,
    "double-fork": DOUBLE_FORK,
    "closed": CLOSED,
    "stubborn-escapee": STUBBORN_ESCAPEE,
    "tree": TREE,
    "stopped": STOPPED,
    "stopped-escapee": STOPPED_ESCAPEE,
}
