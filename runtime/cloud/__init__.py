"""A cloud model behind an OpenAI-compatible endpoint: asked with care, within a budget, on record."""
