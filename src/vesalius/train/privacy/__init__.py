"""Training with a guarantee for each patient; docs/privacy.md says what it means."""
