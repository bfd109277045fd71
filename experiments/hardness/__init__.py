"""Angular visual hardness against model confidence and feature norm (Figure 1.2)."""
