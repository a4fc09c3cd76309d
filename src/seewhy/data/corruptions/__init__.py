"""Corruptions of pictures (plain Albumentations, in levels) and attacks on the classifier."""
