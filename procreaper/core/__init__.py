"""What is decided: plans, events, states and the rules between them. Pure: no clock, no I/O.

In: a plan, events and the time. Out: states, actions for `runtime`, and notices for `output`.
"""
