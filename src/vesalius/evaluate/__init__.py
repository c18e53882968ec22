"""Evidence that a synthetic set is faithful, follows its labels and copies nobody."""
