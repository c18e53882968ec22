"""The commands, one file a stage: each parses, calls the API and prints. No logic, no heavy imports."""
