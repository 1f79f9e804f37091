"""The parts of a study's page, a file each: `ORDER`, and `part(facts)`."""
