"""Images: pixels, DICOM, files with provenance, sets, duplicates, and the nearest training images."""
