"""Pages: one base page and one plot module; a view for each document."""
