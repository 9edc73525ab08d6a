"""Ways to make what the project measures again, from a seed."""
