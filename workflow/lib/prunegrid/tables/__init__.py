"""The results: one schema, rows from manifests, files for people and programs.

The same names mean the same throughout: `plan` is `table_plan.study_plan`; `rows` are the table's,
one a cell of the plan and in its order; `long` are rows of a score each; `wide` and `tall` are both
as frames; `groups` are the cells with their seeds together (`groups.collect`).
"""
