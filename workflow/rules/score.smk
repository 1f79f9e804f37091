"""
Scores: of texts from the stored predictions, of a model from what it is asked.

REQUIRED INPUTS
    predictions     results/artifacts/predictions/{key}/ (or translations)
    data            where a metric reads the documents
    <metric>.model  the model of a metric that has one (BERTScore)
    weights, data   of all others: digest and sparsity are measured in memory and compared
    dense, answers  of what is compared with the dense model: its weights, or what both answered

OUTPUTS
    results/artifacts/scores/{key}/scores.parquet            one row a document, one column a metric
    results/artifacts/perplexity/{key}/windows.parquet       one row a window: tokens, loss
    results/artifacts/tasks/{key}/*/*.parquet                scores, and what was asked and answered, by item
    results/artifacts/{distances,answers}/{key}/             how a model differs from dense: by window, by item
    results/artifacts/classification/{key}/                  the same of classes of texts, and the head
"""


use rule step as score with:
    wildcard_constraints:
        stage="scores",


use rule step as perplexity with:
    wildcard_constraints:
        stage="perplexity",


use rule step as tasks with:
    wildcard_constraints:
        stage="tasks",


use rule step as classify with:
    wildcard_constraints:
        stage="classification",


use rule step as compare with:
    wildcard_constraints:
        stage="distances",


use rule step as write_answers with:
    wildcard_constraints:
        stage="answers",
