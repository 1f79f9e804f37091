"""
Texts: what the attested weights answer, and the controls that need no weights.

REQUIRED INPUTS
    weights  the evaluated artifact; digest and sparsity are measured in memory and compared
    data     the split to summarise or translate

OUTPUTS
    results/artifacts/predictions/{key}/predictions.parquet   id, reference, prediction, lengths
    results/artifacts/translations/{key}/predictions.parquet  the same columns
    results/artifacts/baseline/{key}/predictions.parquet      the same columns
"""


use rule step as generate with:
    wildcard_constraints:
        stage="predictions",


use rule step as translate with:
    wildcard_constraints:
        stage="translations",


use rule step as baseline with:
    wildcard_constraints:
        stage="baseline",
