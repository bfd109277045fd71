"""Code that the studies share. Nothing here imports a study."""
