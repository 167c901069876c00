"""A small SAM-HQ model for tests and first steps, the scenes it was trained on and the script that trained it."""
