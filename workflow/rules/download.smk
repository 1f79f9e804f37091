"""
Models and data sets, from a hub, a package, a local folder or a random config.

REQUIRED INPUTS (none where the source stands in the config)
    parts, against  of a mixture: what is mixed, and what must not be in it

OUTPUTS
    results/artifacts/model/{key}/                                    a plain Hugging Face folder: config, safetensors, tokenizer
    results/artifacts/{data,rows,probe,cloze,numbers,mixture}/{key}/  one Parquet file a split
    manifest.json in each: what the source resolved to, digests, licence where known
"""


use rule step as download_model with:
    wildcard_constraints:
        stage="model",


use rule step as download_data with:
    wildcard_constraints:
        stage="data",


use rule step as rows with:
    wildcard_constraints:
        stage="rows",


use rule step as probe with:
    wildcard_constraints:
        stage="probe",


use rule step as cloze with:
    wildcard_constraints:
        stage="cloze",


use rule step as numbers with:
    wildcard_constraints:
        stage="numbers",


use rule step as mixture with:
    wildcard_constraints:
        stage="mixture",
