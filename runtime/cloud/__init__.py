"""A cloud model behind an OpenAI-compatible endpoint: asked with care, in budget, on record."""
