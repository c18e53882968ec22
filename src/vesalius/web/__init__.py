"""What every page that Vesalius serves shares: who may ask, what is sent, where rows are kept."""
