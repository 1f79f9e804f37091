"""
Texts: what the attested weights answer; and the controls, written without a model, with their scores.

REQUIRED INPUTS
    weights         the evaluated artifact; digest and sparsity are measured in memory and compared
    data            the split to summarise or translate
    <metric>.model  of controls: the model of a metric that has one (BERTScore)

OUTPUTS
    results/artifacts/predictions/{key}/predictions.parquet   id, reference, prediction, lengths
    results/artifacts/translations/{key}/predictions.parquet  the same columns
    results/artifacts/controls/{key}/*/predictions.parquet    the same columns, a folder a control
    results/artifacts/controls/{key}/*/scores.parquet         one row a document, one column a metric
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
