"""
What weights take: their speed in turns with the untouched model's, their memory, their sizes.

REQUIRED INPUTS
    weights  the evaluated artifact; for a census plain weights
    dense    of a timing: the untouched model of its chain, where the weights are others

OUTPUTS
    results/artifacts/{efficiency,passes}/{key}/efficiency.json  every turn; medians and ratios in the manifest
    results/artifacts/census/{key}/tensors.parquet               one row a parameter: kind, block, counts by bin
    results/status/{study}-{key}.measured                        for the time of a run on a cluster
"""


use rule step as efficiency with:
    wildcard_constraints:
        stage="efficiency",


use rule step as passes with:
    wildcard_constraints:
        stage="passes",


use rule step as census with:
    wildcard_constraints:
        stage="census",


# On a cluster alone: it ties what is measured of one set of weights into one job.
rule measured:
    input:
        JOB.measured,
    output:
        temp(touch(JOB.here("results/status/{study}-{key}.measured"))),
    group:
        lambda wildcards: f"evaluate-{wildcards.key}"
    resources:
        mem_mb=100,
        runtime=1,
        in_turn=1,
