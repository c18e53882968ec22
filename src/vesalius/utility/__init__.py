"""Do the synthetic images make a classifier better? Arms, and the statistics that compare them."""
