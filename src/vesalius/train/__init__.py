"""One training loop; a method says what is trained, how the loss is taken and what is saved."""
