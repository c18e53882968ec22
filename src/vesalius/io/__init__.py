"""Files in and out: atomic writes, images with provenance, manifests."""
