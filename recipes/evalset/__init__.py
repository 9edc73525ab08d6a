"""A seeded set of everyday tasks with exact checkers, in five splits."""
