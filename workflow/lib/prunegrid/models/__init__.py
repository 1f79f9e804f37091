"""Models: load, read and write them; their blocks, their zeros, their digests."""
