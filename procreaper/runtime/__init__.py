"""Carries decisions out: the supervisor, and the packages that spawn, check, watch and clean up.

In: a plan and requests. Out: processes, signals, checks, and the events and notices that follow from them.
"""
