"""What the studies share; nothing here knows a study."""
