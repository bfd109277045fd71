"""What several objectives share; every objective has a file of its own beside it."""
