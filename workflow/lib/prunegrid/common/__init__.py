"""What any code may use: errors, logs, files, seeds, devices. Nothing here knows of pruning."""
