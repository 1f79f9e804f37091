"""Published conclusions about pruning, each a test over finished tables.

`catalog` lists them, `kinds` has the few tests that they are made of, `evidence` says when
comparisons make a conclusion hold, refute it, or do neither; `finished` reads the tables and `page`
writes what came out. None of it knows a model or runs one.
"""
