"""Third-party models behind the Generator interface."""
