"""What carries decisions out: the supervisor, and the hands around it.

In: a plan and requests. Out: processes, signals, checks, and the events and notices that come of them.
"""
