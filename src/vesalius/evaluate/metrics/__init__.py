"""One file a question: its figures, their intervals, and what they mean."""
