"""From a project's files and the command line to a plan, or to every problem at once.

In: `Procfile`, `.env`, `.reaper.toml`, arguments. Out: a `core.plan.Plan`, and problems with file and line.
"""
