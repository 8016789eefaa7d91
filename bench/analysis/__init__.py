"""What several records show together: leaderboards, comparisons, gates."""
