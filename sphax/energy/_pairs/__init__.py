"""The mean energy of pairs of directions, a tile of pairs at a time."""
