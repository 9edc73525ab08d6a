"""The offline desktop assistant: conversations, documents, a page and a native window."""
