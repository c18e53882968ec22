"""One file a format; each lists the images of a source and what the source says of them."""
