"""End processes that left their group, also after a `kill -9` of procreaper.

In come the groups of runs and side commands, and the end of the app; out go signals, and messages about processes that
a run or a check left behind. `orphans` works while procreaper lives, `guard` afterwards; `process_tree`, `descendants`
and `commands` help the former.
"""
