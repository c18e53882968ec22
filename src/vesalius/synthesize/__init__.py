"""From a plan to a set of synthetic images, by any number of workers."""
