"""What metrics are made of, computed by actors of a Ray cluster instead of this process."""
