"""The stages of the pipeline, a module each, with `run(settings, parents, out, job)`."""
