"""Refinements of a criterion's mask, before the weights that stay are updated: the lookup of them.

A refinement is one module of this package, found by its name, so that adding one edits no other
file:

    NEEDS     "nothing" | "input_norms" | "hessian": what it must know of a linear's input
    SETTINGS  its settings with their defaults
    OPERATIONS  of what needs a Hessian, operations a parameter, for estimates of time (4000.0)
    PACKAGES  optional: packages that it calls, beside torch and numpy, whose pins enter the key
    refine_mask(weight, kept, stats, pattern, **settings) -> (kept, facts)

`weight` [d_out, d_in] is the weight before pruning, `kept` the criterion's mask (True = kept),
`stats` an InputStats, `pattern` a Pattern. The result is a mask of the same pattern that keeps as
many weights of each row; `facts` is what is recorded of the linear (JSON-able). All but the
function are literals.
"""
