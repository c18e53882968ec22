"""From images with labels or reports to one table of pairs, and its datasheet."""
