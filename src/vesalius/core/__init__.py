"""What every room stands on: atomic files, tables of tensors, progress, optional packages."""
