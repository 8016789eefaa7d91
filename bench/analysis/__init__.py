"""What records say together: leaderboards, comparisons, gates."""
