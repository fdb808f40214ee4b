"""Other people's models behind the Generator interface."""
