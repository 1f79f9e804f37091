"""The page of a study: one HTML file that opens from disk without a network."""
