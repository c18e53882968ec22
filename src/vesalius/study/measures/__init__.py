"""One file a task: its figures, the sentences that they allow, and its tables."""
