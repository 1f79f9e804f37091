"""
Texts: what the attested weights answer; and the controls, written without a model, with their scores.

REQUIRED INPUTS
    weights         the evaluated artifact; digest and sparsity are measured in memory and compared
    data            the split to summarise or translate
    <metric>.model  of controls: the model of a metric that has one (BERTScore)

OUTPUTS
    results/artifacts/{predictions,translations}/{key}/predictions.parquet  id, reference, prediction, lengths
    results/artifacts/controls/{key}/*/{predictions,scores}.parquet         the same, and metrics, of each control
"""


use rule step as generate with:
    wildcard_constraints:
        stage="predictions",


use rule step as translate with:
    wildcard_constraints:
        stage="translations",


use rule step as controls with:
    wildcard_constraints:
        stage="controls",
