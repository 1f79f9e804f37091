"""
Calibration samples: windows of tokens of the dense model's tokenizer, and its input norms.

REQUIRED INPUTS
    model        results/artifacts/model/{key}/
    data         results/artifacts/data/{key}/
    calibration  of Hessians: the samples

OUTPUTS
    results/artifacts/calibration/{key}/                  tokens [samples, length], and mean squared inputs
    results/artifacts/hessians/{key}/<block>.safetensors  a Hessian an input, for propagation dense
"""


use rule step as calibrate with:
    wildcard_constraints:
        stage="calibration",


use rule step as hessians with:
    wildcard_constraints:
        stage="hessians",
