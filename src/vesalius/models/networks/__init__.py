"""Networks that measure images, and the features they give."""
