"""The pages on which readers read. Nothing here knows, or could find out, what an image is."""
