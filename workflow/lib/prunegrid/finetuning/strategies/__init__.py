"""Strategies of the finetune steps, one a file, found by name, so that adding one edits no other.

    TRAINS    whether it trains on the rows of the data set
    FITS      tasks of the models that it can change (`prunegrid.common.model_family`)
    KEYS      the keys of a finetune profile that it uses beside those of training
    MEMORY    bytes that it holds for each parameter of its parents, an estimate
    COPY      bytes a parameter of a copy of what it trains; 0, a small part, where it does not say
    HELD      bytes a parameter of what `memory.adapted` holds; 0 where it does not say
    SETTINGS  settings of its own with their defaults; {} where it does not say. A key of KEYS may
              have another default here
    CHOICES   {setting: {value: settings and keys that some values alone use}}; {} where it does not
              say
    DRAWS     {key: values} under which one that does not train draws random numbers
    ADAPTERS  values of `adapter` that it knows, its default first
    PLAIN     {key: values} under which it ends in plain weights, which further steps can take

all of them literals. One that trains has `tune(context, settings) -> (TrainFacts, Checkpoint)`, one
that does not `transform(context, settings) -> Checkpoint`: the weights that it wrote into
`context.out`, read back. `context.masks` are what it must keep; what it has kept is counted on
those weights by the stage. `context.facts` takes what else is to be recorded.
"""
