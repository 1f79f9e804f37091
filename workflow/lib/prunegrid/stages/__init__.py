"""The stages of the pipeline, a module each, with `run(settings, parents, out, job)`.

`parents` are the folders of the artifacts that it reads, by role; `out` is the empty folder of its
own; `job` gives the device, the precision, seeds by purpose, a scratch folder, and `where`, a label
for errors. `run` returns the record of the artifact's manifest.
"""
