"""A handbook of an invented observatory: 20 pages of PDF, and 20 questions about them."""
