"""Small, hybrid or large: the five factors and what each way costs."""
