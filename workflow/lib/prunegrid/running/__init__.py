"""What surrounds one step: locks, devices, memory, its record."""
