"""The blinded reader study: experts judge images in a browser without knowing which are real."""
