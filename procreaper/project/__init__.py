"""From the files of a project and the command line to a plan.

In: `Procfile`, `.env`, `.reaper.toml`, options. Out: a `core.plan.Plan`, and all problems with file and line.
`read` reads the files, `options` parses the options, `planner` makes the plan, and `configure` puts these together.
`process_types`, `instances` and `depends_on` give the settings their meaning. `lint` warns for `check`.
"""
