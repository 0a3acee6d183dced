"""The owner: one inbox, one loop, the only writer of the state.

Rules: takes events from the inbox, asks the rules, tells the world what changed and has the hands carry out what was
decided. It decides nothing itself. Only this module holds the fleet, the `TaskGroup` in which every task lives, and
the monotonic clock that the rules are fed with.

Theory of operation. The next deadline is derived from the fleet before every wait, so that no stale timer can exist. So
is what is told, by comparing each process before and after a step. However the loop ends, `finally` kills
every group that is left and waits for it.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import assert_never

from procreaper import fleet as rules
from procreaper.child import Child
from procreaper.events import (
    Action,
    Event,
    Message,
    Notice,
    RunBegan,
    RunEnded,
    SendSignal,
    SignalSent,
    Spawn,
    Start,
    Tick,
    Transition,
)
from procreaper.lifecycle import OUT_OF_REACH_AFTER, Lifecycle
from procreaper.plan import Plan


class Reaper:
    """Runs a plan. `publish` takes every notice; where it returns False, output pauses until `resume`."""

    def __init__(self, plan: Plan, *, publish: Callable[[Notice], bool]) -> None:
        self._fleet = rules.begin(plan)
        self._publish = publish
        self._inbox: deque[Event] = deque()
        self._arrived = asyncio.Event()
        # The runs of each process that can still say something, the current one last.
        self._children: dict[str, list[Child]] = {}
        self._loop = asyncio.get_running_loop()

    def post(self, event: Event) -> None:
        """Put a fact or a request into the inbox; to be called in the loop's thread."""
        self._inbox.append(event)
        self._arrived.set()

    def resume(self) -> None:
        """There is room for output again."""
        for children in self._children.values():
            for child in children:
                child.resume()

    def say(self, text: str) -> None:
        """Tell the world something in words."""
        self._publish(Message(time.time(), text))

    async def run(self) -> int:
        """Start every process, supervise until the app has ended, and return its exit code."""
        self.post(Start(tuple(self._fleet.members)))
        async with asyncio.TaskGroup() as tasks:
            try:
                while not self._fleet.finished:
                    await self._wait()
                    while self._inbox:
                        self._step(self._inbox.popleft(), tasks)
            finally:
                if not self._fleet.finished:
                    await self._kill_everything()
                for children in self._children.values():
                    for child in children:
                        child.finish()
        return self._fleet.exit_code

    async def _wait(self) -> None:
        due = rules.deadline(self._fleet)
        timer = None if due is None else self._loop.call_at(due, self.post, Tick())
        try:
            await self._arrived.wait()
        finally:
            if timer is not None:
                timer.cancel()
        self._arrived.clear()

    def _step(self, event: Event, tasks: asyncio.TaskGroup) -> None:
        before = self._fleet.members
        self._fleet, actions = rules.step(self._fleet, event, self._loop.time())
        for name, life in self._fleet.members.items():
            if life is not before[name]:
                self._tell_difference(before[name], life)
        for action in actions:
            self._perform(action, tasks)

    def _tell_difference(self, before: Lifecycle, after: Lifecycle) -> None:
        name = after.process.name
        now = time.time()
        if after.pid is not None and before.pid is None:
            self._publish(RunBegan(now, name, after.pid))
        if after.exit is not None and before.exit is None:
            self._publish(RunEnded(now, name, before.pid, after.exit, after.reason))
        if after.state is not before.state or after.reason != before.reason:
            self._publish(Transition(now, name, before.state, after.state, after.reason))

    def _perform(self, action: Action, tasks: asyncio.TaskGroup) -> None:
        match action:
            case Spawn(name=name, run=run):
                process = self._fleet.members[name].process
                child = Child(process, run, post=self.post, publish=self._publish)
                self._children[name] = [*(old for old in self._children.get(name, ()) if not old.over), child]
                tasks.create_task(child.spawn(), name=f"spawn {name}")
            case SendSignal(name=name, pid=pid, signal=number):
                self._publish(SignalSent(time.time(), name, pid, number))
                self._children[name][-1].signal(number)
            case _:
                assert_never(action)

    async def _kill_everything(self) -> None:
        """The way out after an error of our own, or a cancellation: nothing may be left, whatever the rules say."""
        limit = self._loop.time() + OUT_OF_REACH_AFTER
        with suppress(TimeoutError):
            async with asyncio.timeout_at(limit):
                while left := [child for children in self._children.values() for child in children if not child.ended]:
                    for child in left:
                        child.signal(signal.SIGKILL)
                    self._arrived.clear()
                    await self._arrived.wait()
