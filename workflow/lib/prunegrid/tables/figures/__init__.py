"""The figure of a study: what it shows as plain data, and the drawing of it."""
