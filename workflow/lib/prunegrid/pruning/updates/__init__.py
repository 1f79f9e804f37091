"""Updates of the weights that stay, after any criterion's mask: the lookup of them.

An update is one module of this package, found by its name, so that adding one edits no other file:

    NEEDS     "nothing" | "input_norms" | "input_moments" | "hessian": what it must know of a
              linear's input
    OPERATIONS  of what needs a Hessian, operations a parameter, for estimates of time (4000.0)
    SETTINGS  its settings with their defaults
    update_linear(weight, kept, stats, **settings) -> (weight, facts)

`weight` [d_out, d_in] is the weight before pruning, `kept` the mask (True = kept), `stats` an
InputStats or None. The result has the weight's shape and dtype and is zero where `kept` is False;
`facts` is what is recorded of the linear (JSON-able). All but the function are literals.
"""
