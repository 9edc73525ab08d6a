"""Scripts that make the project's measured figures; run them from the repository's root."""
