"""The OpenAI-compatible server on loopback."""
