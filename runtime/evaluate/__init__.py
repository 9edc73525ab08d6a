"""Questions with checkable answers: how they are read, and how an answer is judged."""
