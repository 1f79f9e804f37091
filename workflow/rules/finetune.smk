"""
Models changed after pruning, their zeros kept: tuned on data, refitted, or in another precision.

REQUIRED INPUTS
    weights      the pruned (or dense) model, or the step before in the chain
    data         of a tuning: the train split of the cell's data set
    dense        of a refit: the weights before pruning
    calibration  of a refit: results/artifacts/calibration/{key}/

OUTPUTS
    results/artifacts/finetune/{key}/   a plain folder, or base/ and adapter/; finetune.json: loss by step, tokens
    results/artifacts/transform/{key}/  a plain folder, or base/ (packed); transform.json: what was done, by linear
"""


use rule step as finetune with:
    wildcard_constraints:
        stage="finetune",


use rule step as transform with:
    wildcard_constraints:
        stage="transform",
