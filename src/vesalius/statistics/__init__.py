"""Figures and how sure they are: intervals, tests, ROC curves."""
