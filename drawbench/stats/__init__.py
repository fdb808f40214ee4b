"""Statistics of votes: shares, win rates, rankings and agreement, each with its uncertainty."""
