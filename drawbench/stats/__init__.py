"""What votes say: shares, win rates, rankings, agreement, and how sure one can be of each."""
