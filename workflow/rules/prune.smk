"""
A pruned model: plain Hugging Face folder with zeros where the mask says so.

REQUIRED INPUTS
    weights      the model, or the step before in the chain
    calibration  results/artifacts/calibration/{key}/, for methods that need it
    hessians     of the dense model, where propagation is dense and the method needs them
    mask         a model whose mask is taken on, where another step has chosen it

OUTPUTS
    results/artifacts/prune/{key}/  config, safetensors, tokenizer; prune.json: sparsity by linear
"""


use rule step as prune with:
    wildcard_constraints:
        stage="prune",
