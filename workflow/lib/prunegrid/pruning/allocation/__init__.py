"""Layer-wise allocation: how many weights each linear loses, for any criterion; the lookup of them.

An allocation is one module of this package, found by its name, so that adding one edits no other
file:

    NEEDS     "nothing" | "input_norms": what it must know of the dense model's inputs
    SETTINGS  its settings with their defaults
    allocate(blocks, sparsity, norms, **settings) -> {linear: sparsity}

`blocks` is block name → linear name → weight [d_out, d_in]; `norms` linear name → float32 [d_in],
the mean of x_j² over the calibration tokens of the dense model, or None. The result need not add
up: `counts.exact_zeros` shifts and rounds it. All but the function are literals.
"""
