"""Published conclusions about pruning (`config/claims.yaml`), tested on finished tables.

`comparisons` finds what speaks of each, `verdicts` decides by it, and `page` writes what came out.
"""
