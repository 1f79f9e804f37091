"""The configuration: named profiles, studies over them, and their validation."""
